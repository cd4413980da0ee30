// What the tests use of a package that brings no types.
declare module "tls-sig-api-v2" {
  export class Api {
    constructor(sdkAppId: number, key: string);
    genUserSig(userId: string, expireSeconds: number): string;
    genPrivateMapKey(userId: string, expireSeconds: number, roomId: number, privileges: number): string;
  }
}
