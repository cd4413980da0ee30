// What the samples print lets their users log in, with the secret as the command line prints it.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ParlanceClient } from "../../src/index.js";
import { nodeTransport } from "../../src/node.js";
import { DevCluster } from "../support/dev-cluster.js";

const run = promisify(execFile);
const FOLDER = fileURLToPath(new URL("../../../../samples/token/", import.meta.url));
/** In a text of JSON these need care. */
const USER = 'ann "用户" \\ 🙂';

const SAMPLES: readonly (readonly [program: string, ...args: string[]])[] = [
  ["node", "token.mjs"],
  ["go", "run", "token.go"],
  ["java", "Token.java"],
  ["php", "token.php"],
  ["python3", "token.py"],
];

let cluster: DevCluster;
let secret: string;
before(async () => {
  cluster = await DevCluster.start();
  const { secrets } = await cluster.admin<{ secrets: { secret: string }[] }>(
    "app",
    "secret",
    "list",
    cluster.app,
    "--reveal",
  );
  secret = secrets[0]?.secret ?? "";
  assert.notEqual(secret, "");
});
after(() => cluster.stop());

/** Undefined when the program is not here. */
async function tokenOf(program: string, args: readonly string[]): Promise<string | undefined> {
  try {
    const env = { ...process.env, PARLANCE_APP_SECRET: secret };
    const { stdout } = await run(program, [...args, cluster.app, USER], { cwd: FOLDER, env });
    return stdout.trim();
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT") return undefined;
    throw error;
  }
}

for (const [program, ...args] of SAMPLES) {
  test(`the sample for ${program} logs its user in`, async (t) => {
    const token = await tokenOf(program, args);
    if (token === undefined) {
      assert.ok(process.env["CI"] === undefined, `${program} has to be there in CI`);
      return t.skip(`there is no ${program} here`);
    }
    const client = new ParlanceClient({
      gateways: cluster.gateways,
      getToken: () => token,
      transport: nodeTransport(),
    });
    try {
      const session = await client.connect({ timeoutMs: 20_000 });
      assert.deepEqual([session.appId, session.userId], [cluster.app, USER]);
    } finally {
      client.close();
    }
  });
}
