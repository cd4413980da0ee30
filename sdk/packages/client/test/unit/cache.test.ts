// What survives a restart: positions, events, conversations and unsent messages, in bounded size, whatever is damaged.
import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyValueStore, MemoryStore, type Store, TimedOutError, weChatStorage, webStorage } from "../../src/index.js";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { FakeStorage, fakeWxStorage } from "../support/fake-storage.js";
import { fixture, online, texts } from "../support/fixture.js";

const OWNER = { appId: "demo", userId: "alice" };

/** What makes stores that have the same content. */
function stores(): [string, () => Store][] {
  const [local, wx, memory] = [new FakeStorage(), new FakeStorage(), new MemoryStore()];
  return [
    ["localStorage", () => new KeyValueStore(webStorage(local))],
    ["wx", () => new KeyValueStore(weChatStorage(fakeWxStorage(wx)))],
    ["memory", () => memory],
  ];
}

test("a restart brings what was missed, and shows what was seen", async () => {
  for (const [name, store] of stores()) {
    const cluster = new FakeCluster();
    cluster.say("bob", "alice", "before");
    const first = await online({ store: store() }, cluster);
    cluster.say("bob", "alice", "seen");
    await first.clock.advance(0);
    first.client.close();
    cluster.say("bob", "alice", "missed");
    cluster.say("carol", "alice", "missed too");
    const second = await online({ store: store() }, cluster);
    await second.clock.advance(0);
    assert.deepEqual(texts(second.events).sort(), ["missed", "missed too"], name);
    const timeline = second.client.timeline({ to: "bob" });
    cluster.requests.length = 0;
    await timeline.loadOlder();
    assert.deepEqual(texts(timeline.snapshot().events), ["seen", "missed"], `${name}: from the store`);
    assert.equal(cluster.requests.length, 0);
    await Promise.all([timeline.loadOlder(), second.clock.advance(0)]);
    assert.deepEqual(texts(timeline.snapshot().events), ["before", "seen", "missed"], `${name}: from the cluster`);
    assert.equal(timeline.snapshot().more, false);
    second.client.close();
    assert.deepEqual([...first.errors, ...second.errors], [], name);
  }
});

test("without a network the owner's conversations and messages are there", async () => {
  const store = new MemoryStore();
  const cluster = new FakeCluster();
  const first = await online({ store }, cluster);
  cluster.say("bob", "alice", "hello");
  await first.clock.advance(0);
  first.client.close();
  const { client, clock, transport } = fixture({ store, owner: OWNER }, cluster);
  for (const url of ["ws://one/ws", "ws://two/ws"]) transport.down.add(url);
  client.connect().catch(() => {});
  const timeline = client.timeline({ to: "bob" });
  await timeline.loadOlder();
  assert.deepEqual(texts(timeline.snapshot().events), ["hello"]);
  client.send({ to: "bob", text: "later" }).catch(() => {});
  assert.equal(timeline.snapshot().pending.length, 1);
  assert.deepEqual(
    client.conversations().map((c) => [c.peer, c.unreadCount, c.headSeq]),
    [["bob", 1, 1]],
  );
  client.close();
  await clock.advance(0);
});

test("a log-in of another than the owner is refused", async () => {
  const { client, clock } = fixture({ owner: { appId: "demo", userId: "bob" } });
  const refused = assert.rejects(client.connect(), { code: "user_changed" });
  await clock.advance(0);
  await refused;
});

test("a user who logged in before with no conversations gets the first ones as events", async () => {
  const cluster = new FakeCluster();
  const store = new MemoryStore();
  const first = await online({ store }, cluster);
  first.client.close();
  cluster.say("bob", "alice", "hello");
  const { client, events } = await online({ store }, cluster);
  assert.deepEqual(texts(events), ["hello"]);
  client.close();
});

test("a first log-in that broke off is still the first", async () => {
  const cluster = new FakeCluster();
  const store = new MemoryStore();
  cluster.say("bob", "alice", "old");
  const handle = cluster.handle.bind(cluster);
  cluster.handle = (session, body) => (body.$case === "conversations" ? undefined : handle(session, body));
  const first = await online({ store }, cluster);
  await first.clock.advance(0);
  first.client.close();
  cluster.handle = handle;
  const { client, events } = await online({ store }, cluster);
  assert.deepEqual(texts(events), []);
  client.close();
});

test("damaged rows never turn what was missed into history", async () => {
  for (const part of ["/p/", "/m", "/e/", "/c/", "/"]) {
    const storage = new FakeStorage();
    const cluster = new FakeCluster();
    const store = (): Store => new KeyValueStore(webStorage(storage));
    const first = await online({ store: store() }, cluster);
    cluster.say("bob", "alice", "seen");
    await first.clock.advance(0);
    first.client.close();
    cluster.say("bob", "alice", "missed");
    assert.ok(storage.damage(part) > 0, part);
    const { client, clock, events, errors } = await online({ store: store() }, cluster);
    await clock.advance(0);
    const timeline = client.timeline({ to: "bob" });
    await Promise.all([timeline.loadOlder(), clock.advance(0)]);
    await Promise.all([timeline.loadOlder(), clock.advance(0)]);
    assert.deepEqual(texts(timeline.snapshot().events), ["seen", "missed"], part);
    assert.equal(texts(events).at(-1), "missed", part);
    assert.ok(errors.length > 0 && errors.every((error) => error.code === "store"), part);
    client.close();
    await clock.advance(0);
    const again = await online({ store: store() }, cluster);
    assert.deepEqual([texts(again.events), again.errors], [[], []], `${part}: mended`);
    again.client.close();
  }
});

test("a cluster that was set up anew does not count as seen", async () => {
  const store = new MemoryStore();
  const before = await online({ store });
  for (const text of ["1", "2", "3"]) before.cluster.say("bob", "alice", text);
  before.cluster.say("carol", "alice", "old");
  await before.clock.advance(0);
  before.client.close();
  const cluster = new FakeCluster();
  cluster.say("bob", "alice", "new");
  const { client, clock, events } = await online({ store }, cluster);
  cluster.say("carol", "alice", "also new");
  await clock.advance(0);
  assert.deepEqual(texts(events), ["new", "also new"]);
  assert.deepEqual(
    client.conversations().map((c) => [c.peer, c.headSeq, c.unreadCount]),
    [
      ["carol", 1, 1],
      ["bob", 1, 1],
    ],
  );
  client.close();
});

test("forgetting leaves nothing of this user, and everything of others", async () => {
  const storage = new FakeStorage();
  const cluster = new FakeCluster();
  const store = new KeyValueStore(webStorage(storage));
  const bob = await online({ store, getToken: () => "bob" }, cluster);
  bob.client.close();
  const others = new Map(storage.entries);
  const { client, clock } = await online({ store }, cluster);
  cluster.say("bob", "alice", "secret");
  await clock.advance(0);
  assert.ok(storage.entries.size > others.size);
  cluster.say("bob", "alice", "more");
  const forgotten = client.forget();
  await clock.advance(0);
  await forgotten;
  assert.deepEqual(storage.entries, others);
});

test("a change writes its own rows and no others", async () => {
  const storage = new FakeStorage();
  const cluster = new FakeCluster();
  for (let i = 0; i < 500; i += 1) cluster.say(`user${i}`, "alice", "hi", `u${i}`);
  const { client, clock } = await online({ store: new KeyValueStore(webStorage(storage)) }, cluster);
  await clock.advance(0);
  const before = storage.writes;
  cluster.say("user7", "alice", "again");
  await clock.advance(0);
  // The event, its position, the conversation, and the cursor with the sum over conversations.
  assert.equal(storage.writes - before, 4);
  client.close();
});

test("events are kept within the bound, and the oldest go", async () => {
  const storage = new FakeStorage();
  const cluster = new FakeCluster();
  const store = (): Store => new KeyValueStore(webStorage(storage));
  const { client, clock } = await online({ store: store(), cacheBytesMax: 20_000 }, cluster);
  for (let i = 0; i < 400; i += 1) cluster.say(i % 2 === 0 ? "bob" : "carol", "alice", "x".repeat(200), `m${i}`);
  await clock.advance(0);
  const kept = [...storage.entries.keys()].filter((key) => key.includes("/e/"));
  const bytes = kept.reduce((sum, key) => sum + key.length + (storage.getItem(key)?.length ?? 0), 0);
  assert.ok(bytes > 15_000 && bytes < 21_000, `${bytes} bytes`);
  const seqs = kept.map((key) => Number(key.split("/")[5]));
  assert.equal(Math.max(...seqs), 200);
  assert.equal(Math.max(...seqs) - Math.min(...seqs) + 1, kept.length / 2, "the newest of both");
  client.close();
  // A smaller bound at the next start holds too.
  const next = await online({ store: store(), cacheBytesMax: 5_000 }, cluster);
  await next.clock.advance(0);
  assert.ok([...storage.entries.keys()].filter((key) => key.includes("/e/")).length < kept.length / 3);
  next.client.close();
});

test("a storage that is full before its bound loses old events, no positions", async () => {
  const storage = new FakeStorage();
  const cluster = new FakeCluster();
  const store = (): Store => new KeyValueStore(webStorage(storage));
  const { client, clock, events, errors } = await online({ store: store() }, cluster);
  storage.bytesMax = 20_000;
  for (let i = 0; i < 300; i += 1) {
    cluster.say("bob", "alice", "x".repeat(200), `m${i}`);
    if (i % 10 === 0) await clock.advance(0);
  }
  await clock.advance(0);
  assert.equal(events.length, 300);
  assert.ok(errors.length > 0 && errors.every((error) => error.code === "store"));
  client.close();
  cluster.say("bob", "alice", "missed");
  const next = await online({ store: store() }, cluster);
  await next.clock.advance(0);
  assert.deepEqual(texts(next.events), ["missed"]);
  next.client.close();
});

test("what was unsent goes out after a restart, first and in order, and is stored once", async () => {
  const store = new MemoryStore();
  const cluster = new FakeCluster();
  const first = await online({ store }, cluster);
  // The first is stored, and nobody is told; then the process ends.
  cluster.beforeSend = (request) => {
    if (request.content?.kind?.value === "1") cluster.say("alice", "bob", "1", request.clientMessageId);
    return true;
  };
  for (const text of ["1", "2", "3"]) first.client.send({ to: "bob", text }).catch(() => {});
  await first.clock.advance(0);
  first.transport.last.silent = true;
  cluster.beforeSend = undefined;
  const second = fixture({ store }, cluster);
  const later = second.client.send({ to: "bob", text: "4", clientMessageId: "fourth" });
  const connected = second.client.connect();
  await second.clock.advance(1_000);
  await connected;
  assert.equal((await later).seq, 4);
  assert.deepEqual(
    cluster.log("alice", "bob").map((event) => event.body?.value.content?.kind?.value),
    ["1", "2", "3", "4"],
  );
  assert.equal(
    store.keys("").some((key) => key.includes("/o/")),
    false,
    "what is acknowledged is forgotten",
  );
  second.client.close();
});

test("what cannot be sent after a restart is told and shown, and so is what became too old", async () => {
  const store = new MemoryStore();
  const cluster = new FakeCluster();
  const first = await online({ store }, cluster);
  cluster.beforeSend = () => true;
  first.client.send({ to: "bob", text: "forbidden" }).catch(() => {});
  await first.clock.advance(0);
  cluster.beforeSend = () => cluster.refuse(ErrorCode.ERROR_CODE_PERMISSION_DENIED);
  const second = fixture({ store }, cluster);
  const unsent: string[] = [];
  second.client.on("unsent", ({ message, error }) => {
    unsent.push(message.content.type === "text" ? `${message.content.text}: ${error.code}` : "?");
  });
  second.client.connect().catch(() => {});
  await second.clock.advance(0);
  assert.deepEqual(unsent, ["forbidden: permission_denied"]);
  const shown = second.client.timeline({ to: "bob" }).snapshot().pending;
  assert.deepEqual(
    shown.map(({ error }) => error?.code),
    ["permission_denied"],
  );
  second.client.close();

  cluster.beforeSend = () => true;
  const third = await online({ store }, cluster);
  third.client.send({ to: "bob", text: "late" }).catch(() => {});
  await third.clock.advance(0);
  const fourth = fixture({ store }, cluster);
  // A day later by the cluster, whatever this device thinks.
  cluster.now += 24 * 3_600_000;
  const errors: unknown[] = [];
  fourth.client.on("unsent", ({ error }) => errors.push(error));
  fourth.client.connect().catch(() => {});
  await fourth.clock.advance(0);
  assert.ok(errors.length === 1 && errors[0] instanceof TimedOutError);
  fourth.client.close();
});

test("a store that cannot be read is tried again; nothing is skipped meanwhile, and sends go out", async () => {
  const cluster = new FakeCluster();
  const inner = new MemoryStore();
  const before = await online({ store: inner }, cluster);
  before.client.close();
  cluster.say("bob", "alice", "one");
  let tries = 0;
  const store: Store = {
    keys(prefix) {
      tries += 1;
      if (tries <= 2) throw new Error("disk");
      return inner.keys(prefix);
    },
    read: (keys) => inner.read(keys),
    write: () => Promise.reject(new Error("disk")),
  };
  const { client, clock, events, errors } = await online({ store }, cluster);
  assert.equal(events.length, 0);
  const [sent] = await Promise.all([client.send({ to: "carol", text: "x" }), clock.advance(0)]);
  assert.equal(sent.seq, 1);
  await clock.advance(1_000);
  assert.deepEqual(texts(events).sort(), ["one", "x"]);
  assert.ok(errors.length > 0 && errors.every((e) => e.code === "store"));
  client.close();
});
