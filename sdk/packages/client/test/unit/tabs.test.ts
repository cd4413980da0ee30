// Two clients of one user on one store, as in two tabs: neither harms what the other keeps.
import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyValueStore, type Store, webStorage } from "../../src/index.js";
import { FakeCluster, type FakeSession } from "../support/fake-cluster.js";
import { FakeLocks } from "../support/fake-locks.js";
import { FakeStorage } from "../support/fake-storage.js";
import { type Fixture, fixture, online, texts } from "../support/fixture.js";

const OWNER = { appId: "demo", userId: "alice" };

function shared(): { storage: FakeStorage; store(): Store } {
  const storage = new FakeStorage();
  return { storage, store: () => new KeyValueStore(webStorage(storage)) };
}

function stored(cluster: FakeCluster): unknown[] {
  return cluster.log("alice", "bob").map((event) => event.body?.value.content?.kind?.value);
}

function rows(storage: FakeStorage, kind: string): string[] {
  return [...storage.entries.keys()].filter((key) => key.includes(`/${kind}/`));
}

/** The page is gone without a word. */
function dies({ transport }: Fixture): void {
  for (const link of transport.links) {
    link.silent = true;
    link.forget();
  }
}

test("what two tabs could not send goes out after a reload, of both and in order", async () => {
  const cluster = new FakeCluster();
  const { storage, store } = shared();
  const tabs = [await online({ store: store() }, cluster), await online({ store: store() }, cluster)];
  for (const [index, { client, clock, transport }] of tabs.entries()) {
    transport.last.silent = true;
    for (const n of [1, 2]) client.send({ to: "bob", text: `tab ${index + 1}: ${n}` }).catch(() => {});
    await clock.advance(1);
  }
  assert.equal(rows(storage, "o").length, 4);
  for (const tab of tabs) dies(tab);
  const next = await online({ store: store() }, cluster);
  await next.clock.advance(0);
  assert.deepEqual(stored(cluster).sort(), ["tab 1: 1", "tab 1: 2", "tab 2: 1", "tab 2: 2"]);
  for (const tab of ["tab 1", "tab 2"]) {
    const own = texts(next.events).filter((text) => text.startsWith(tab));
    assert.deepEqual(own, [`${tab}: 1`, `${tab}: 2`]);
  }
  assert.deepEqual(rows(storage, "o"), []);
  next.client.close();
});

test("two tabs that were offline from the start lose nothing either", async () => {
  const cluster = new FakeCluster();
  const { storage, store } = shared();
  (await online({ store: store() }, cluster)).client.close();
  const tabs = ["one", "two"].map((text) => ({ text, ...fixture({ store: store(), owner: OWNER }, cluster) }));
  for (const { client, clock, transport } of tabs) {
    for (const url of ["ws://one/ws", "ws://two/ws"]) transport.down.add(url);
    client.connect().catch(() => {});
    await clock.advance(0);
  }
  for (const { client, clock, text } of tabs) {
    client.send({ to: "bob", text }).catch(() => {});
    await clock.advance(0);
  }
  assert.equal(rows(storage, "o").length, 2);
  const next = await online({ store: store() }, cluster);
  await next.clock.advance(0);
  assert.deepEqual(stored(cluster).sort(), ["one", "two"]);
  next.client.close();
});

test("the first tab whose message is acknowledged leaves that of the other alone", async () => {
  const cluster = new FakeCluster();
  const { storage, store } = shared();
  const one = await online({ store: store() }, cluster);
  const two = await online({ store: store() }, cluster);
  two.transport.last.silent = true;
  two.client.send({ to: "bob", text: "from two" }).catch(() => {});
  await two.clock.advance(0);
  await Promise.all([one.client.send({ to: "bob", text: "from one" }), one.clock.advance(0)]);
  assert.equal(rows(storage, "o").length, 1);
  dies(two);
  one.client.close();
  const next = await online({ store: store() }, cluster);
  await next.clock.advance(0);
  assert.deepEqual(stored(cluster), ["from one", "from two"]);
  next.client.close();
});

test("where there are locks, a message is sent by the tab that has it, and by another one when that is gone", async () => {
  const cluster = new FakeCluster();
  const { storage, store } = shared();
  const locks = new FakeLocks();
  const pages = [locks.page(), locks.page()] as const;
  const one = await online({ store: store(), locks: pages[0].locks }, cluster);
  const sends = (): number => cluster.requests.filter((request) => request.$case === "send").length;
  one.transport.last.silent = true;
  one.client.send({ to: "bob", text: "hi" }).catch(() => {});
  await one.clock.advance(0);
  const two = await online({ store: store(), locks: pages[1].locks }, cluster);
  await two.clock.advance(0);
  assert.equal(sends(), 0, "the first tab lives");
  dies(one);
  pages[0].end();
  two.transport.last.cut();
  await two.clock.advance(1_000);
  assert.deepEqual(stored(cluster), ["hi"]);
  assert.equal(sends(), 1);
  assert.deepEqual(rows(storage, "o"), []);
  two.client.close();
});

test("without locks two tabs may send the same message: it is stored once, and an event once in each", async () => {
  const cluster = new FakeCluster();
  const { store } = shared();
  const one = await online({ store: store() }, cluster);
  cluster.beforeSend = () => true;
  one.client.send({ to: "bob", text: "hi" }).catch(() => {});
  await one.clock.advance(0);
  cluster.beforeSend = undefined;
  const two = await online({ store: store() }, cluster);
  one.transport.last.cut();
  await one.clock.advance(1_000);
  await two.clock.advance(0);
  assert.deepEqual([stored(cluster), texts(one.events), texts(two.events)], [["hi"], ["hi"], ["hi"]]);
  assert.ok(cluster.requests.filter((request) => request.$case === "send").length >= 2);
  one.client.close();
  two.client.close();
});

test("a tab that is behind takes no position back", async () => {
  const cluster = new FakeCluster();
  const { storage, store } = shared();
  const one = await online({ store: store() }, cluster);
  const two = await online({ store: store() }, cluster);
  two.transport.last.silent = true;
  for (let i = 1; i <= 10; i += 1) cluster.say("bob", "alice", String(i), `b${i}`);
  await one.clock.advance(0);
  // The second one gets some of them late.
  two.transport.last.silent = false;
  for (const event of cluster.log("alice", "bob").slice(0, 5)) {
    two.transport.last.session.push({ $case: "event", value: event });
  }
  await two.clock.advance(0);
  assert.equal(texts(two.events).length, 5);
  dies(one);
  dies(two);
  cluster.say("bob", "alice", "missed");
  const next = await online({ store: store() }, cluster);
  await next.clock.advance(0);
  assert.deepEqual(texts(next.events), ["missed"]);
  assert.equal(rows(storage, "p").length, 1, "positions that are passed are deleted");
  next.client.close();
});

test("what one tab deleted is no damage to another", async () => {
  const cluster = new FakeCluster();
  const { store } = shared();
  const bounded = { cacheBytesMax: 10_000 };
  const one = await online({ store: store(), ...bounded }, cluster);
  const two = await online({ store: store(), ...bounded }, cluster);
  const say = async (from: number, to: number): Promise<void> => {
    for (let i = from; i < to; i += 1) cluster.say("bob", "alice", "x".repeat(50), `m${i}`);
    await Promise.all([one.clock.advance(0), two.clock.advance(0)]);
  };
  await say(0, 100);
  one.transport.last.silent = true;
  await say(100, 200);
  one.transport.last.silent = false;
  const timeline = one.client.timeline({ to: "bob" });
  for (let page = 0; page < 3; page += 1) await Promise.all([timeline.loadOlder(), one.clock.advance(0)]);
  assert.ok(timeline.snapshot().events.length >= 50, "the cluster has them");
  assert.deepEqual([...one.errors, ...two.errors], []);
  one.client.close();
  two.client.close();
});

test("two tabs together keep within the bound, whatever each reads", async () => {
  const cluster = new FakeCluster();
  const { storage, store } = shared();
  const peers = ["bob", "carol"] as const;
  for (const peer of peers) for (let i = 0; i < 200; i += 1) cluster.say(peer, "alice", "x".repeat(50), `${peer}${i}`);
  const bounded = { cacheBytesMax: 50_000 };
  const tabs = [
    await online({ store: store(), ...bounded }, cluster),
    await online({ store: store(), ...bounded }, cluster),
  ];
  for (const [index, { client, clock }] of tabs.entries()) {
    const timeline = client.timeline({ to: peers[index] ?? "" });
    timeline.subscribe(() => {});
    for (let page = 0; page < 4; page += 1) await Promise.all([timeline.loadOlder(), clock.advance(0)]);
    assert.equal(timeline.snapshot().events.length, 200);
  }
  const bytes = rows(storage, "e").reduce((sum, key) => sum + key.length + (storage.getItem(key)?.length ?? 0), 0);
  assert.ok(bytes > 40_000 && bytes < 60_000, `${bytes} bytes of events`);
  for (const { client } of tabs) client.close();
});

/** Hears of nothing but what a test pushes to it. */
function deaf(cluster: FakeCluster, number: number): FakeSession {
  const session = [...cluster.sessions][number];
  assert.ok(session !== undefined);
  cluster.sessions.delete(session);
  return session;
}

test("what one tab writes late is not taken for what the cursor of another one speaks of", async () => {
  for (const cursorIsWritten of [true, false]) {
    const cluster = new FakeCluster();
    const { store } = shared();
    cluster.say("bob", "alice", "hello");
    const inner = store();
    const lateStore: Store = {
      keys: (prefix) => inner.keys(prefix),
      read: (keys) => inner.read(keys),
      write: (changes) => inner.write(new Map([...changes].filter(([key]) => writesAll || !key.endsWith("m/cursor")))),
    };
    let writesAll = true;
    const late = await online({ store: lateStore }, cluster);
    const other = await online({ store: store() }, cluster);
    const session = deaf(cluster, 0);
    await Promise.all([other.client.markRead({ to: "bob", seq: 1 }), other.clock.advance(0)]);
    cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
    await other.clock.advance(0);
    assert.equal(other.client.conversation("d:5:alice:bob")?.unreadCount, 0);
    // The late one has not heard of it, writes the conversation all the same, and may end in the middle of that.
    writesAll = cursorIsWritten;
    const read = { conversationId: "d:5:alice:bob", userId: "bob", readSeq: 1 };
    session.push({ $case: "readCursor", value: read });
    await late.clock.advance(0);
    const shown = late.client.conversation("d:5:alice:bob");
    assert.deepEqual([shown?.unreadCount, shown?.peerReadSeq], [1, 1]);
    for (const tab of [late, other]) dies(tab);
    const next = await online({ store: store() }, cluster);
    assert.equal(next.client.conversation("d:5:alice:bob")?.unreadCount, 0, `cursor written: ${cursorIsWritten}`);
    next.client.close();
  }
});

test("where two tabs know the same, what both write counts: the next one asks for nothing", async () => {
  const cluster = new FakeCluster();
  const { store } = shared();
  for (const peer of ["bob", "carol", "dave"]) cluster.say(peer, "alice", "old");
  const tabs = [await online({ store: store() }, cluster), await online({ store: store() }, cluster)];
  cluster.say("bob", "alice", "new");
  await Promise.all([tabs[0]?.client.markRead({ to: "carol", seq: 1 }), tabs[0]?.clock.advance(0)]);
  for (const { clock } of tabs) await clock.advance(0);
  cluster.shown = 0;
  cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
  for (const { clock } of tabs) await clock.advance(0);
  for (const tab of tabs) dies(tab);
  cluster.shown = 0;
  const next = await online({ store: store() }, cluster);
  assert.equal(cluster.shown, 0);
  assert.deepEqual(
    next.client
      .conversations()
      .map((c) => [c.peer, c.unreadCount])
      .sort(),
    [
      ["bob", 2],
      ["carol", 0],
      ["dave", 1],
    ],
  );
  next.client.close();
});
