// A vendor's own package makes the token, with the key that the app has there; the app's users log in with it here.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Api as UserSigs } from "tls-sig-api-v2";
import { type GivenToken, ParlanceClient } from "../../src/index.js";
import { nodeTransport } from "../../src/node.js";
import { DevCluster } from "../support/dev-cluster.js";

const NUMBER = 1_400_000_000;
const KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";

let cluster: DevCluster;
let folder: string;
before(async () => {
  cluster = await DevCluster.start();
  folder = await mkdtemp(join(tmpdir(), "parlance-"));
  const file = join(folder, "key");
  await writeFile(file, `${KEY}\n`);
  await cluster.admin("app", "secret", "add", cluster.app, "--format", "usersig", "--secret-file", file);
  await cluster.admin("app", "alias", "add", cluster.app, String(NUMBER));
});
after(async () => {
  await cluster.stop();
  await rm(folder, { recursive: true });
});

async function loggedIn(given: GivenToken): Promise<readonly string[]> {
  const transport = nodeTransport();
  const client = new ParlanceClient({ gateways: cluster.gateways, getToken: () => given, transport });
  try {
    const session = await client.connect({ timeoutMs: 20_000 });
    return [session.appId, session.userId];
  } finally {
    client.close();
  }
}

/** A gateway hears of a new secret a moment after the command has answered. */
async function soonLoggedIn(given: GivenToken): Promise<readonly string[]> {
  const end = Date.now() + 15_000;
  for (;;) {
    try {
      return await loggedIn(given);
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

test("a UserSig of the vendor's package logs its user in", async () => {
  const token = new UserSigs(NUMBER, KEY).genUserSig("xiaojun", 86_400);
  assert.deepEqual(await soonLoggedIn(token), [cluster.app, "xiaojun"]);
  const whole = { token, appId: String(NUMBER), userId: "xiaojun" };
  assert.deepEqual(await loggedIn(whole), [cluster.app, "xiaojun"]);
});

test("so does one with a user buffer", async () => {
  const token = new UserSigs(NUMBER, KEY).genPrivateMapKey("xiaojun", 86_400, 10_000, 255);
  assert.deepEqual(await loggedIn(token), [cluster.app, "xiaojun"]);
});

test("one made with another key does not", async () => {
  const token = new UserSigs(NUMBER, KEY.replace("5", "6")).genUserSig("xiaojun", 86_400);
  await assert.rejects(loggedIn(token), { code: "token_invalid" });
});

test("fields beside the token reach the cluster", async () => {
  const expiry = "24h";
  await cluster.admin("app", "secret", "add", cluster.app, "--format", "alivc");
  const issued = await cluster.admin<{
    token: string;
    app_id: string;
    user_id: string;
    extra: Record<string, string>;
  }>("token", "issue", "--app", cluster.app, "--user", "lin", "--format", "alivc", "--ttl", expiry);
  const { token, app_id: appId, user_id: userId, extra } = issued;
  assert.deepEqual(await soonLoggedIn({ token, appId, userId, extra }), [cluster.app, "lin"]);
});
