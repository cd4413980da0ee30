import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { bundleEs5 } from "@parlance/tools/es5";
import { parse } from "acorn";
import * as door from "../../src/index.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { FakeClock } from "../support/fake-time.js";
import { texts } from "../support/fixture.js";
import { fakeWx } from "../support/fake-wx.js";

/** The same story in the platform's own engine and in a poor one. */
async function chats(client: typeof door): Promise<void> {
  const cluster = new FakeCluster();
  const wx = fakeWx(cluster);
  const clock = new FakeClock();
  const alice = new client.ParlanceClient({
    gateways: ["wss://one/ws"],
    getToken: () => "alice",
    transport: client.weChatTransport(wx),
    clock,
  });
  const events: door.ConversationEvent[] = [];
  alice.on("event", (event) => events.push(event));
  const connected = alice.connect();
  await clock.advance(0);
  await connected;
  assert.equal(String(wx.protocols), "parlance.v1");
  cluster.say("用户", "alice", "你好 🙂");
  const [result] = await Promise.all([alice.send({ to: "用户", text: "grüß dich" }), clock.advance(0)]);
  assert.equal(result.seq, 2);
  assert.deepEqual(texts(events), ["你好 🙂", "grüß dich"]);
  assert.equal(result.timeMs, cluster.now);

  wx.cut();
  assert.equal(await Promise.resolve(clock.advance(0)).then(() => alice.state), "waiting");
  wx.broken = true;
  await clock.advance(2_000);
  wx.broken = false;
  cluster.say("用户", "alice", "noch da?");
  await clock.advance(30_000);
  assert.equal(alice.state, "online");
  assert.equal(texts(events).at(-1), "noch da?");
  await assert.rejects(alice.send({ to: "用户", text: "ü".repeat(40_000) }), client.RequestError);
  alice.close();
}

test("a mini-program chats through wx.connectSocket", () => chats(door));

test("the mini-program build is ES5, and chats in an engine without what is newer", async () => {
  const folder = mkdtempSync(join(tmpdir(), "parlance-mp-"));
  try {
    const outfile = join(folder, "index.js");
    await bundleEs5(fileURLToPath(new URL("../../src/index.ts", import.meta.url)), outfile);
    const code = readFileSync(outfile, "utf8");
    // Throws on anything newer.
    parse(code, { ecmaVersion: 5, sourceType: "script" });
    assert.doesNotMatch(code, /\beval\(|new Function\(|\bdocument\.|\bwindow\./);
    const module = { exports: {} };
    // The classes whose identity counts across the border, and nothing else of Node.js.
    const context = vm.createContext({ module, exports: module.exports, Uint8Array, ArrayBuffer, Promise });
    vm.runInContext(
      `delete globalThis.BigInt; delete globalThis.WebAssembly; delete globalThis.SharedArrayBuffer;
       delete Symbol.asyncIterator; delete Array.prototype.at; delete Array.prototype.flat;
       delete Array.prototype.flatMap; delete String.prototype.replaceAll; delete Object.fromEntries;`,
      context,
    );
    assert.equal(
      vm.runInContext("typeof TextEncoder + typeof BigInt + typeof crypto + typeof setTimeout", context),
      "undefined".repeat(4),
    );
    vm.runInContext(code, context);
    await chats(module.exports as typeof door);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
