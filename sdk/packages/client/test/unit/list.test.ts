// What a log-in, a reload and a resync ask for: what changed since the list before.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Changes, MemoryStore, type Store } from "../../src/index.js";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import { seal } from "../../src/cache/text.js";
import { Writer } from "../../src/cache/writer.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { FakeClock } from "../support/fake-time.js";
import { type Fixture, fixture, online, texts } from "../support/fixture.js";

const CHATS = 250;

/** A cluster with many conversations, and a store that is level with it. */
async function withHistory(): Promise<{ cluster: FakeCluster; store: MemoryStore }> {
  const cluster = new FakeCluster();
  const store = new MemoryStore();
  for (let chat = 0; chat < CHATS; chat += 1) cluster.say(`peer${chat}`, "alice", "old");
  (await online({ store }, cluster)).client.close();
  assert.equal(cluster.shown, CHATS);
  cluster.shown = 0;
  return { cluster, store };
}

/** The process ends without a word. */
function end({ transport }: Fixture): void {
  for (const link of transport.links) {
    link.silent = true;
    link.forget();
  }
}

test("after a reload only what changed is asked for, and all is shown", async () => {
  const { cluster, store } = await withHistory();
  for (const peer of ["peer7", "peer30", "peer200"]) cluster.say(peer, "alice", `new of ${peer}`);
  cluster.read("peer8", "alice", 1);
  const second = await online({ store }, cluster);
  assert.equal(cluster.shown, 4);
  assert.deepEqual(texts(second.events).sort(), ["new of peer200", "new of peer30", "new of peer7"]);
  const shown = second.client.conversations();
  assert.equal(shown.length, CHATS);
  assert.equal(shown.filter((c) => c.unreadCount === 2).length, 3);
  assert.equal(second.client.conversation("d:5:alice:peer8")?.peerReadSeq, 1);
  second.client.close();
  cluster.shown = 0;
  (await online({ store }, cluster)).client.close();
  assert.equal(cluster.shown, 0);
});

test("a reconnect and a resync ask for what changed", async () => {
  const { cluster, store } = await withHistory();
  const { client, clock, events, transport } = await online({ store }, cluster);
  cluster.pushes = () => false;
  cluster.say("peer1", "alice", "not pushed");
  cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
  await clock.advance(0);
  transport.last.cut();
  cluster.say("peer2", "alice", "while away");
  await clock.advance(1_000);
  assert.deepEqual(texts(events), ["not pushed", "while away"]);
  assert.equal(cluster.shown, 2);
  client.close();
});

test("what changed comes over several pages", async () => {
  const { cluster, store } = await withHistory();
  for (let chat = 0; chat < 220; chat += 1) cluster.say(`peer${chat}`, "alice", "new");
  const { client, events } = await online({ store }, cluster);
  assert.deepEqual([cluster.shown, events.length], [220, 220]);
  client.close();
});

test("a list that breaks off goes on, and what changed meanwhile comes behind it", async () => {
  const { cluster, store } = await withHistory();
  for (let chat = 0; chat < 220; chat += 1) cluster.say(`peer${chat}`, "alice", "new");
  const handle = cluster.handle.bind(cluster);
  let lists = 0;
  cluster.handle = (session, body) => {
    if (body.$case !== "conversations") return handle(session, body);
    lists += 1;
    if (lists === 2) {
      cluster.pushes = () => false;
      cluster.say("peer0", "alice", "newer");
      session.socket.close(1006);
      return undefined;
    }
    return handle(session, body);
  };
  const { client, clock, events } = await online({ store }, cluster);
  await clock.advance(5_000);
  assert.equal(events.length, 221);
  // Once more each: peer0 moved to the end of the first list, and has changed since it began.
  assert.equal(cluster.shown, 222);
  client.close();
});

test("a cursor is kept once all before it was handed out", async () => {
  const { cluster, store } = await withHistory();
  cluster.say("peer1", "alice", "missed");
  const handle = cluster.handle.bind(cluster);
  cluster.handle = (session, body) => {
    if (body.$case === "history") cluster.refuse(ErrorCode.ERROR_CODE_UNAVAILABLE);
    return handle(session, body);
  };
  const second = await online({ store }, cluster);
  await second.clock.advance(10_000);
  assert.equal(second.events.length, 0);
  end(second);
  cluster.handle = handle;
  const third = await online({ store }, cluster);
  assert.deepEqual(texts(third.events), ["missed"]);
  third.client.close();
});

test("a cursor is kept behind the rows that it speaks of, whatever fails", async () => {
  const written: string[] = [];
  let full = true;
  const store = new MemoryStore();
  store.write = async (changes: Changes): Promise<void> => {
    for (const key of changes.keys()) {
      await quiet();
      if (full && key === "position") throw new Error("the disk is full");
      written.push(key);
    }
  };
  const writer = new Writer({
    clock: new FakeClock(),
    store,
    prefix: "",
    failed: () => {},
    makeRoom: () => [],
    dropped: () => {},
  });
  writer.put("position", "1");
  await Promise.resolve();
  await Promise.resolve();
  writer.putLast("cursor", "1");
  for (let turn = 0; turn < 5; turn += 1) await quiet();
  full = false;
  writer.put("other", "1");
  for (let turn = 0; turn < 5; turn += 1) await quiet();
  assert.deepEqual(written, ["position", "other", "cursor"]);
});

/** What is under way without a clock has gone on. */
async function quiet(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

test("a client that opens while another one writes takes no cursor that is newer than its rows", async () => {
  const { cluster, store } = await withHistory();
  const other = await online({ store }, cluster);
  let armed = true;
  const slow: Store = {
    async keys(prefix) {
      const keys = store.keys(prefix);
      if (!armed) return keys;
      armed = false;
      // The other one hands out an event, and writes where it is.
      cluster.say("peer1", "alice", "new");
      cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
      await other.clock.advance(0);
      return keys;
    },
    read: (keys) => store.read(keys),
    write: (changes) => store.write(changes),
  };
  const opening = fixture({ store: slow, owner: { appId: "demo", userId: "alice" } }, cluster);
  opening.client.connect().catch(() => {});
  for (let turn = 0; turn < 10; turn += 1) await opening.clock.advance(0);
  assert.deepEqual([texts(other.events), texts(opening.events)], [["new"], ["new"]]);
  opening.client.close();
  other.client.close();
});

test("what a row shows beyond its position is fetched, whatever the cursor says", async () => {
  const { cluster, store } = await withHistory();
  cluster.say("peer1", "alice", "new");
  (await online({ store }, cluster)).client.close();
  const place = store.keys("").find((key) => key.includes("/p/") && key.includes("peer1/")) ?? "";
  const before = place.replace(/2$/, "1");
  store.write(
    new Map([
      [place, undefined],
      [before, seal(1)],
    ]),
  );
  const { client, events } = await online({ store }, cluster);
  assert.deepEqual(texts(events), ["new"]);
  client.close();
});

test("single conversations are asked for again after a failure inside the cluster, and no cursor is kept before", async () => {
  const { cluster, store } = await withHistory();
  const cursor = (): unknown => store.read(store.keys("").filter((key) => key.endsWith("m/cursor")))[0];
  const kept = cursor();
  cluster.lost.add("d:5:alice:peer1");
  cluster.say("peer1", "alice", "missed");
  const handle = cluster.handle.bind(cluster);
  let asked = 0;
  cluster.handle = (session, body) => {
    if (body.$case !== "conversations" || body.value.conversationIds.length === 0) return handle(session, body);
    asked += 1;
    cluster.lost.clear();
    return asked > 2 ? handle(session, body) : cluster.refuse(ErrorCode.ERROR_CODE_INTERNAL);
  };
  const second = await online({ store }, cluster);
  let synced = 0;
  second.client.on("synced", () => {
    synced += 1;
  });
  assert.deepEqual([asked, cursor()], [1, kept]);
  await second.clock.advance(30_000);
  assert.deepEqual([texts(second.events), asked, synced], [["missed"], 3, 1]);
  assert.notEqual(cursor(), kept);
  second.client.close();
});

test("conversations that are refused for good hold up nothing", async () => {
  const { cluster, store } = await withHistory();
  cluster.lost.add("d:5:alice:peer1");
  cluster.say("peer1", "alice", "refused");
  cluster.say("peer2", "alice", "missed");
  const handle = cluster.handle.bind(cluster);
  cluster.handle = (session, body) => {
    if (body.$case !== "conversations" || body.value.conversationIds.length === 0) return handle(session, body);
    return cluster.refuse(ErrorCode.ERROR_CODE_INVALID_ARGUMENT);
  };
  const made = fixture({ store }, cluster);
  let synced = 0;
  made.client.on("synced", () => {
    synced += 1;
  });
  made.client.connect().catch(() => {});
  await made.clock.advance(600_000);
  assert.deepEqual([texts(made.events), synced], [["missed"], 1]);
  made.client.close();
});

test("a damaged row leads to a whole list", async () => {
  for (const kind of ["/p/", "/c/", "/m/cursor", "/m/based"]) {
    const { cluster, store } = await withHistory();
    const key = store.keys("").find((other) => other.includes(kind) && !other.includes("/e/")) ?? "";
    store.write(new Map([[key, "damaged"]]));
    const { client } = await online({ store }, cluster);
    assert.ok(cluster.shown >= CHATS, `${key}: ${cluster.shown}`);
    assert.equal(client.conversations().length, CHATS);
    client.close();
    cluster.shown = 0;
    (await online({ store }, cluster)).client.close();
    assert.equal(cluster.shown, 0, "it is mended");
  }
});

test("where the store has no room for all conversations, they are listed again", async () => {
  const cluster = new FakeCluster();
  const options = { store: new MemoryStore(), cacheBytesMax: 40_000 };
  for (let chat = 0; chat < CHATS; chat += 1) cluster.say(`peer${chat}`, "alice", "old");
  (await online(options, cluster)).client.close();
  const { client, events } = await online(options, cluster);
  assert.deepEqual([client.conversations().length, events.length], [CHATS, 0]);
  client.close();
});

test("an own message that no list has heard of comes once over a reload", async () => {
  for (const hasList of [false, true]) {
    const cluster = new FakeCluster();
    if (hasList) cluster.say("carol", "alice", "old");
    const store = new MemoryStore();
    const first = await online({ store }, cluster);
    const held: (() => void)[] = [];
    cluster.relay = (deliver) => held.push(deliver);
    await Promise.all([first.client.send({ to: "bob", text: "hello" }), first.clock.advance(0)]);
    assert.deepEqual(texts(first.events), ["hello"]);
    end(first);
    const second = await online({ store }, cluster);
    for (const deliver of held) deliver();
    await second.clock.advance(1_000);
    assert.deepEqual(texts(second.events), []);
    assert.equal(second.client.conversation("d:5:alice:bob")?.headSeq, 1);
    cluster.relay = (deliver) => deliver();
    cluster.say("bob", "alice", "hi");
    await second.clock.advance(0);
    assert.deepEqual(texts(second.events), ["hi"]);
    second.client.close();
  }
});

test("who reads a part of a conversation asks for that conversation", async () => {
  const { cluster, store } = await withHistory();
  cluster.say("peer1", "alice", "2");
  const { client, clock } = await online({ store }, cluster);
  cluster.shown = 0;
  await Promise.all([client.markRead({ to: "peer1", seq: 1 }), clock.advance(0)]);
  await clock.advance(0);
  assert.equal(client.conversation("d:5:alice:peer1")?.unreadCount, 1);
  assert.equal(cluster.shown, 1);
  client.close();
});
