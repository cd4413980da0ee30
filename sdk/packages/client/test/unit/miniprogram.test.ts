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
import { FakeStorage, fakeWxStorage } from "../support/fake-storage.js";
import { FakeClock } from "../support/fake-time.js";
import { texts } from "../support/fixture.js";
import { fakeWx } from "../support/fake-wx.js";

/** What came after ES2015, and where. The last of them is how they are found. */
const NEWER: readonly (readonly [string, string])[] = [
  ["Array.prototype", "includes flat flatMap at findLast findLastIndex toReversed toSorted toSpliced with"],
  ["Object.getPrototypeOf(Uint8Array.prototype)", "includes at findLast findLastIndex toReversed toSorted with"],
  ["Array", "fromAsync"],
  ["Object", "entries values fromEntries getOwnPropertyDescriptors hasOwn groupBy"],
  ["Map", "groupBy"],
  ["String.prototype", "padStart padEnd trimStart trimEnd matchAll replaceAll at isWellFormed toWellFormed"],
  ["Promise", "allSettled any withResolvers try"],
  ["Promise.prototype", "finally"],
  ["Symbol", "asyncIterator matchAll"],
  ["RegExp.prototype", "flags dotAll hasIndices"],
  ["globalThis", "BigInt BigInt64Array BigUint64Array WebAssembly SharedArrayBuffer Atomics WeakRef Intl Iterator"],
  ["globalThis", "FinalizationRegistry AggregateError Proxy Reflect console escape unescape globalThis"],
];

/** The same story in the platform's own engine and in a poor one. */
async function chats(client: typeof door): Promise<void> {
  const cluster = new FakeCluster();
  const wx = fakeWx(cluster);
  const clock = new FakeClock();
  const storage = new FakeStorage();
  const made = (): door.ParlanceClient =>
    new client.ParlanceClient({
      gateways: ["wss://one/ws"],
      getToken: () => "alice",
      transport: client.weChatTransport(wx),
      store: new client.KeyValueStore(client.weChatStorage(fakeWxStorage(storage))),
      clock,
    });
  const alice = made();
  const events: door.ConversationEvent[] = [];
  const errors: door.ParlanceError[] = [];
  alice.on("event", (event) => events.push(event));
  alice.on("error", (error) => errors.push(error));
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
  await Promise.all([alice.send({ to: "用户", customType: 1, json: { ok: "ä" } }), clock.advance(0)]);
  assert.equal(errors.length, 0);

  // The program is closed while it sends, and started again.
  cluster.beforeSend = () => true;
  alice.send({ to: "用户", text: "übrig" }).catch(() => {});
  await clock.advance(0);
  cluster.beforeSend = undefined;
  cluster.say("用户", "alice", "verpasst", "late");
  const next = made();
  const seen: door.ConversationEvent[] = [];
  next.on("event", (event) => seen.push(event));
  next.on("error", (error) => errors.push(error));
  await Promise.all([next.connect(), clock.advance(0)]);
  await clock.advance(1_000);
  assert.deepEqual(texts(seen).slice(-1), ["übrig"]);
  const timeline = next.timeline({ to: "用户" });
  await Promise.all([timeline.loadOlder(), clock.advance(0)]);
  const shown = timeline.snapshot().events;
  assert.deepEqual([...texts(shown)], ["你好 🙂", "grüß dich", "noch da?", "message", "verpasst", "übrig"]);
  const custom = shown[3];
  assert.ok(custom?.type === "message");
  assert.equal(JSON.stringify(client.jsonOf(custom.content)), '{"ok":"ä"}');
  assert.equal(errors.length, 0);
  const forgotten = next.forget();
  await clock.advance(0);
  await forgotten;
  assert.equal(storage.entries.size, 0);
  alice.close();
}

test("a mini-program chats through wx.connectSocket", () => chats(door));

test("the mini-program build is ES5, and chats in an engine without what is newer than ES2015", async () => {
  const folder = mkdtempSync(join(tmpdir(), "parlance-mp-"));
  try {
    const outfile = join(folder, "index.js");
    await bundleEs5(fileURLToPath(new URL("../../src/index.ts", import.meta.url)), outfile);
    const code = readFileSync(outfile, "utf8");
    // Throws on anything newer.
    parse(code, { ecmaVersion: 5, sourceType: "script" });
    assert.doesNotMatch(code, /\beval\(|new Function\(|\bdocument\.|\bwindow\./);
    const module = { exports: {} };
    const context = vm.createContext({ module, exports: module.exports });
    const deletions = NEWER.map(([where, names]) =>
      names
        .split(" ")
        .map((name) => `delete ${where}.${name};`)
        .join(""),
    );
    vm.runInContext(deletions.join("\n"), context);
    for (const name of ["TextEncoder", "BigInt", "crypto", "setTimeout", "globalThis", "performance", "navigator"]) {
      assert.equal(vm.runInContext(`typeof ${name}`, context), "undefined", name);
    }
    vm.runInContext(code, context);
    await chats(module.exports as typeof door);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
