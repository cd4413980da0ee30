// Node.js, without a package: node token.mjs APP USER, with the secret in PARLANCE_APP_SECRET.
import { createHmac } from "node:crypto";

const base64url = (text) => Buffer.from(text).toString("base64url");

/** A token that lets `user` log in for an hour. */
export function issueToken(secret, app, user, lifeSeconds = 3600) {
  const now = Math.floor(Date.now() / 1000);
  const header = base64url(JSON.stringify({ alg: "HS256", typ: "JWT" }));
  const claims = base64url(JSON.stringify({ app, sub: user, iat: now, exp: now + lifeSeconds }));
  const signature = createHmac("sha256", secret).update(`${header}.${claims}`).digest("base64url");
  return `${header}.${claims}.${signature}`;
}

console.log(issueToken(process.env.PARLANCE_APP_SECRET, process.argv[2], process.argv[3]));
