// Stores that cannot be read, do not answer, or are full: what is to come comes, and what matters most is kept.
import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyValueStore, MemoryStore, type Store, webStorage } from "../../src/index.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { FakeStorage } from "../support/fake-storage.js";
import { fixture, online, texts } from "../support/fixture.js";

const OWNER = { appId: "demo", userId: "alice" };

/** A store of which nothing comes back. */
const BROKEN: Readonly<Record<string, Store["keys"]>> = {
  refuses: () => {
    throw new Error("InvalidStateError");
  },
  "does not answer": () => new Promise(() => {}),
};

test("a store that cannot be read is given up with a word, and messages come all the same", async () => {
  for (const [name, keys] of Object.entries(BROKEN)) {
    const writes: unknown[] = [];
    const store: Store = { keys, read: () => [], write: (changes) => void writes.push(changes) };
    const { client, clock, cluster, events, errors } = await online({ store });
    cluster.say("bob", "alice", "hello");
    await clock.advance(120_000);
    assert.deepEqual(texts(events), ["hello"], name);
    assert.match(errors.at(-1)?.message ?? "", /cannot be read: it is left as it is/);
    assert.ok(errors.every((error) => error.code === "store") && errors.length <= 8, name);
    const [sent] = await Promise.all([client.send({ to: "bob", text: "hi" }), clock.advance(0)]);
    assert.equal(sent.seq, 2, name);
    assert.equal(writes.length, 0, "what is there may be good for the next run");
    const told = errors.length;
    await clock.advance(600_000);
    assert.equal(errors.length, told, "told once");
    client.close();
  }
});

test("a write that does not end is told once; the rest waits for it and is written, and forgetting says that it failed", async () => {
  const inner = new MemoryStore();
  let [end, writes, stuck] = [(): void => {}, 0, false];
  const store: Store = {
    keys: (prefix) => inner.keys(prefix),
    read: (keys) => inner.read(keys),
    async write(changes) {
      writes += 1;
      if (stuck) {
        await new Promise<void>((resolve) => {
          end = resolve;
        });
      }
      inner.write(changes);
    },
  };
  const { client, clock, cluster, errors, events } = await online({ store });
  cluster.say("bob", "alice", "1");
  await clock.advance(0);
  [stuck, writes] = [true, 0];
  cluster.say("bob", "alice", "2");
  await clock.advance(9_000);
  assert.equal(errors.length, 0);
  cluster.say("bob", "alice", "3");
  await clock.advance(600_000);
  assert.deepEqual([events.length, writes], [3, 1], "one at a time");
  assert.deepEqual(
    errors.map(({ code }) => code),
    ["store"],
  );
  assert.match(errors[0]?.message ?? "", /did not end a write within 10000 ms/);
  stuck = false;
  end();
  await clock.advance(0);
  assert.equal(inner.keys("").filter((key) => key.includes("/p/") && key.endsWith("/3")).length, 1);
  stuck = true;
  cluster.say("bob", "alice", "4");
  await clock.advance(0);
  const refused = assert.rejects(client.forget(), { code: "store" });
  await clock.advance(10_000);
  await refused;
});

test("what an earlier run left unsent goes out when the store can be read at last", async () => {
  const cluster = new FakeCluster();
  const inner = new MemoryStore();
  const first = await online({ store: inner }, cluster);
  first.transport.last.silent = true;
  for (const text of ["1", "2"]) first.client.send({ to: "bob", text }).catch(() => {});
  await first.clock.advance(0);
  let tries = 0;
  const store: Store = {
    keys(prefix) {
      tries += 1;
      if (tries <= 2) throw new Error("disk");
      return inner.keys(prefix);
    },
    read: (keys) => inner.read(keys),
    write: (changes) => inner.write(changes),
  };
  const { client, clock } = await online({ store }, cluster);
  await clock.advance(5_000);
  assert.deepEqual(
    cluster.log("alice", "bob").map((event) => event.body?.value.content?.kind?.value),
    ["1", "2"],
  );
  assert.deepEqual(
    inner.keys("").filter((key) => key.includes("/o/")),
    [],
  );
  client.close();
});

test("forgetting works before a log-in, and says so when it cannot", async () => {
  const cluster = new FakeCluster();
  const storage = new FakeStorage();
  const store = (): Store => new KeyValueStore(webStorage(storage));
  const first = await online({ store: store() }, cluster);
  cluster.say("bob", "alice", "secret");
  await first.clock.advance(0);
  first.client.close();
  const nobody = fixture({ store: store() }, cluster);
  await assert.rejects(nobody.client.forget(), { code: "not_logged_in" });
  assert.ok(storage.entries.size > 0);
  const broken: Store = { keys: BROKEN.refuses as Store["keys"], read: () => [], write: () => {} };
  await assert.rejects(fixture({ store: broken, owner: OWNER }).client.forget(), { code: "store" });
  await fixture({ store: store(), owner: OWNER }, cluster).client.forget();
  assert.deepEqual([...storage.entries.keys()], []);
});

test("conversations are kept with a short last event, and within a bound", async () => {
  const cluster = new FakeCluster();
  const storage = new FakeStorage();
  const store = (): Store => new KeyValueStore(webStorage(storage));
  const { client, clock } = await online({ store: store(), cacheBytesMax: 200_000 }, cluster);
  for (let user = 0; user < 300; user += 1) {
    cluster.say(`user${user}`, "alice", "ü".repeat(10_000), `m${user}`);
    if (user % 20 === 0) await clock.advance(0);
  }
  await clock.advance(0);
  const kept = [...storage.entries].filter(([key]) => key.includes("/c/"));
  const bytes = kept.map(([key, row]) => key.length + Buffer.byteLength(row));
  assert.ok(Math.max(...bytes) < 2_500, `a row of ${Math.max(...bytes)} bytes`);
  const sum = bytes.reduce((all, one) => all + one, 0);
  assert.ok(sum > 40_000 && sum <= 50_000, `${sum} bytes of conversations`);
  const events = [...storage.entries].filter(([key]) => key.includes("/e/"));
  const eventBytes = events.reduce((all, [key, row]) => all + key.length + Buffer.byteLength(row), 0);
  assert.ok(eventBytes <= 200_000, `${eventBytes} bytes of events: bytes are counted, not letters`);
  client.close();
  const next = fixture({ store: store(), owner: OWNER }, cluster);
  for (const url of ["ws://one/ws", "ws://two/ws"]) next.transport.down.add(url);
  next.client.connect().catch(() => {});
  await next.clock.advance(0);
  assert.equal(next.client.conversations()[0]?.peer, "user299", "the newest are kept");
  next.client.close();
});

test("unsent messages have a bound in the store, and one that finds no room is told and sent all the same", async () => {
  const storage = new FakeStorage();
  const { client, clock, cluster, errors, transport } = await online({
    store: new KeyValueStore(webStorage(storage)),
    cacheBytesMax: 100_000,
  });
  transport.last.silent = true;
  const all = Array.from({ length: 20 }, () => client.send({ to: "bob", text: "x".repeat(2_000) }));
  await clock.advance(0);
  const bytes = [...storage.entries].reduce((sum, [key, row]) => sum + (key.includes("/o/") ? row.length : 0), 0);
  assert.ok(bytes > 20_000 && bytes <= 25_000, `${bytes} bytes`);
  assert.ok(errors.length > 0 && errors.every(({ code }) => code === "store"));
  transport.last.cut();
  await Promise.all([...all, clock.advance(1_000)]);
  assert.equal(cluster.log("alice", "bob").length, 20);
  client.close();
});

test("a storage that breaks off in the middle of a write has at least what stands for what is gone", async () => {
  for (let steps = 0; steps <= 4; steps += 1) {
    const storage = new FakeStorage();
    const store = new KeyValueStore(webStorage(storage));
    store.write(new Map([["p/1", "before"]]));
    let left = steps;
    const step = (act: () => void): void => {
      if (left === 0) throw new Error("the process ends");
      left -= 1;
      act();
    };
    const dying = new KeyValueStore({
      keys: () => [],
      getItem: () => null,
      setItem: (key, value) => step(() => storage.setItem(key, value)),
      removeItem: (key) => step(() => storage.removeItem(key)),
    });
    // In the order in which a client that is quick gathers them.
    const changes = new Map([
      ["p/1", undefined],
      ["o/1", undefined],
      ["e/1", "event"],
      ["p/3", "after"],
    ]);
    const write = (): void => dying.write(changes);
    if (steps < 4) assert.throws(write, /the process ends/);
    else write();
    const places = [...storage.entries.keys()].filter((key) => key.startsWith("p/"));
    assert.ok(places.length > 0, `after ${steps} steps there is no position`);
  }
});

test("a client that ends in the middle of a write loses no position", async () => {
  const cluster = new FakeCluster();
  const storage = new FakeStorage();
  const store = new KeyValueStore(webStorage(storage));
  cluster.say("bob", "alice", "old");
  (await online({ store }, cluster)).client.close();
  for (let steps = 0; steps < 12; steps += 1) {
    let left = Number.POSITIVE_INFINITY;
    const step = (act: () => void): void => {
      if (left <= 0) throw new Error("the process ends");
      left -= 1;
      act();
    };
    const dying = new KeyValueStore({
      ...webStorage(storage),
      setItem: (key, value) => step(() => storage.setItem(key, value)),
      removeItem: (key) => step(() => storage.removeItem(key)),
    });
    const run = await online({ store: dying }, cluster);
    left = steps;
    for (const text of ["1", "2", "3"]) {
      cluster.say("bob", "alice", text);
      await Promise.resolve();
    }
    await run.clock.advance(0);
    const places = [...storage.entries.keys()].filter((key) => key.includes("/p/"));
    assert.ok(places.length > 0, `after ${steps} steps there is no position`);
    for (const link of run.transport.links) {
      link.silent = true;
      link.forget();
    }
  }
});

test("in a storage that is full of other things positions are kept, and next unsent messages, before events", async () => {
  const storage = new FakeStorage();
  const cluster = new FakeCluster();
  const store = (): Store => new KeyValueStore(webStorage(storage));
  const { client, clock, events, transport } = await online({ store: store() }, cluster);
  for (let i = 0; i < 20; i += 1) cluster.say(`user${i}`, "alice", "x".repeat(3_000), `u${i}`);
  await clock.advance(0);
  // Somebody else takes the rest.
  storage.bytesMax = storage.bytes;
  for (let round = 0; round < 30; round += 1) {
    for (let i = 0; i < 20; i += 1) cluster.say(`user${i}`, "alice", "y".repeat(3_000), `r${round}-${i}`);
    await clock.advance(0);
  }
  assert.equal(events.length, 31 * 20);
  transport.last.silent = true;
  client.send({ to: "bob", text: "z".repeat(3_000) }).catch(() => {});
  await clock.advance(0);
  const next = await online({ store: store() }, cluster);
  await next.clock.advance(0);
  assert.equal(next.events.length, 1, "nothing but what was unsent");
  assert.equal(cluster.log("alice", "bob").length, 1);
  next.client.close();
});
