// What an earlier run left unsent: it is sent once, or the app is told; no clock and no close loses or doubles it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CloseCode, ClosedError, MemoryStore, ParlanceError, type UnsentNotice } from "../../src/index.js";
import { seal, unseal } from "../../src/cache/text.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { type Fixture, fixture, online } from "../support/fixture.js";
import { dies, left, OWNER, stored } from "../support/unsent.js";

const HOUR = 3_600_000;

function withoutNetwork(store: MemoryStore, cluster: FakeCluster): Fixture & { unsent: UnsentNotice[] } {
  const run = fixture({ store, owner: OWNER }, cluster);
  for (const url of ["ws://one/ws", "ws://two/ws"]) run.transport.down.add(url);
  const unsent: UnsentNotice[] = [];
  run.client.on("unsent", (notice) => unsent.push(notice));
  run.client.connect().catch(() => {});
  return { ...run, unsent };
}

test("the time of what is left counts from the log-in: an hour without a network takes nothing away", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  await dies(store, cluster, "hi");
  const { client, clock, transport, unsent } = withoutNetwork(store, cluster);
  await clock.advance(HOUR);
  assert.deepEqual([unsent.length, client.timeline({ to: "bob" }).snapshot().pending.length], [0, 1]);
  transport.down.clear();
  await clock.advance(30_000);
  assert.deepEqual([stored(cluster), unsent.length, left(store)], [["hi"], 0, 0]);
  client.close();

  // And it does count from there.
  await dies(store, cluster, "again");
  const next = withoutNetwork(store, cluster);
  cluster.beforeSend = () => true;
  next.transport.down.clear();
  await next.clock.advance(90_000);
  assert.deepEqual(
    next.unsent.map(({ error }) => error.code),
    ["timeout"],
  );
  next.client.close();
});

test("what is found only after the log-in goes before what waits, and not before what is on its way", async () => {
  const [inner, cluster] = [new MemoryStore(), new FakeCluster()];
  await dies(inner, cluster, "left");
  let broken = true;
  const keys = (prefix: string): string[] => {
    if (broken) throw new Error("disk");
    return inner.keys(prefix);
  };
  const store = { keys, read: inner.read.bind(inner), write: inner.write.bind(inner) };
  const { client, clock, transport } = await online({ store, sendsAheadMax: 1 }, cluster);
  const handle = cluster.handle.bind(cluster);
  let answer = (): void => {};
  cluster.handle = (session, body) => {
    if (body.$case !== "send") return handle(session, body);
    // The first is answered late.
    cluster.handle = handle;
    answer = () => session.push(handle(session, body) as never, 2);
    return undefined;
  };
  const requests = cluster.requests.length;
  const all = ["new 1", "new 2"].map((text) => client.send({ to: "bob", text }));
  broken = false;
  await clock.advance(5_000);
  assert.equal(cluster.requests.slice(requests).filter(({ $case }) => $case === "send").length, 1);
  answer();
  await Promise.all([...all, clock.advance(0)]);
  await clock.advance(0);
  assert.deepEqual(stored(cluster), ["new 1", "left", "new 2"]);
  assert.equal(transport.links.length, 1);
  client.close();
});

test("what the cluster ends is shown as failed, and goes out in the next run", async () => {
  for (const code of [CloseCode.unsupported, CloseCode.kicked, CloseCode.appDisabled, CloseCode.replaced]) {
    const [store, cluster] = [new MemoryStore(), new FakeCluster()];
    const { client, clock, transport } = await online({ store }, cluster);
    cluster.beforeSend = () => true;
    const timeline = client.timeline({ to: "bob" });
    const sent = client.send({ to: "bob", text: "hi" }).catch((error: unknown) => error);
    await clock.advance(0);
    transport.last.cut(code);
    const error = await sent;
    assert.ok(error instanceof ClosedError && error.cause instanceof ParlanceError, `closed with ${code}`);
    assert.deepEqual(
      timeline.snapshot().pending.map((pending) => pending.error),
      [error.cause],
    );
    await clock.advance(0);
    assert.equal(left(store), 1);
    cluster.beforeSend = undefined;
    const next = await online({ store }, cluster);
    await next.clock.advance(0);
    assert.deepEqual([stored(cluster), left(store)], [["hi"], 0]);
    next.client.close();
  }
});

test("a client that the cluster ended sends it itself when it is opened again", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  const { client, clock, transport } = await online({ store }, cluster);
  cluster.beforeSend = () => true;
  const timeline = client.timeline({ to: "bob" });
  client.send({ to: "bob", text: "hi" }).catch(() => {});
  await clock.advance(0);
  transport.last.cut(CloseCode.replaced);
  cluster.beforeSend = undefined;
  await Promise.all([client.connect(), clock.advance(0)]);
  await clock.advance(0);
  assert.deepEqual([stored(cluster), left(store)], [["hi"], 0]);
  assert.deepEqual(timeline.snapshot().pending, [], "it is no longer shown as failed");
  client.close();
});

test("what the user discards after the cluster ended the client is not sent later", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  const { client, clock, transport } = await online({ store }, cluster);
  cluster.beforeSend = () => true;
  const timeline = client.timeline({ to: "bob" });
  for (const text of ["unwanted", "wanted"]) {
    client.send({ to: "bob", text, clientMessageId: text }).catch(() => {});
  }
  await clock.advance(0);
  transport.last.cut(CloseCode.kicked);
  await clock.advance(0);
  assert.equal(timeline.snapshot().pending.length, 2);
  timeline.discard("unwanted");
  // One that cannot be sent now is still there.
  await assert.rejects(timeline.retry("wanted"), ClosedError);
  await clock.advance(0);
  assert.equal(left(store), 1);
  cluster.beforeSend = undefined;
  const next = await online({ store }, cluster);
  await next.clock.advance(0);
  assert.deepEqual(stored(cluster), ["wanted"]);
  next.client.close();
});

test("a client that cannot log in any more leaves what an earlier run left to the next", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  await dies(store, cluster, "hi");
  cluster.protocols = { min: 7, max: 8 };
  const { client, clock, transport, unsent } = withoutNetwork(store, cluster);
  transport.down.clear();
  await clock.advance(30_000);
  assert.deepEqual([client.state, unsent.length, left(store)], ["closed", 0, 1]);
  cluster.protocols = { min: 1, max: 1 };
  const updated = await online({ store }, cluster);
  await updated.clock.advance(0);
  assert.deepEqual(stored(cluster), ["hi"]);
  updated.client.close();
});

test("the app's own close ends what it sent, and nothing of an earlier run", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  await dies(store, cluster, "left");
  const { client, clock, unsent } = withoutNetwork(store, cluster);
  await clock.advance(0);
  const sent = assert.rejects(client.send({ to: "bob", text: "own" }), ClosedError);
  // As a component that is mounted twice does it.
  client.close();
  await sent;
  await clock.advance(0);
  assert.deepEqual([unsent.length, left(store)], [0, 1]);
  client.connect().catch(() => {});
  await clock.advance(0);
  assert.equal(client.timeline({ to: "bob" }).snapshot().pending.length, 1 + 0);
  client.close();
  await clock.advance(0);
  const next = await online({ store }, cluster);
  await next.clock.advance(0);
  assert.deepEqual(stored(cluster), ["left"]);
  next.client.close();
});

test("a clock that was set back between two runs makes nobody send after the cluster forgot the id", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  const first = fixture({ store }, cluster);
  first.clock.set(100 * HOUR);
  first.client.connect().catch(() => {});
  await first.clock.advance(0);
  // Stored, and nobody is told.
  cluster.beforeSend = (request) => {
    cluster.say("alice", "bob", "hi", request.clientMessageId);
    return true;
  };
  first.client.send({ to: "bob", text: "hi" }).catch(() => {});
  await first.clock.advance(0);
  cluster.beforeSend = undefined;
  cluster.now += 30 * HOUR;
  for (const event of cluster.log("alice", "bob")) if (event.body) event.body.value.clientMessageId = "forgotten";
  const second = fixture({ store, owner: OWNER }, cluster);
  const unsent: string[] = [];
  second.client.on("unsent", ({ error }) => unsent.push(error.message));
  second.client.connect().catch(() => {});
  await second.clock.advance(1_000);
  assert.deepEqual(stored(cluster), ["hi"]);
  assert.match(unsent.join(), /too old to be sent again/);
  assert.equal(left(store), 0);
  second.client.close();
});

test("what was typed before a log-in on a device whose clock is behind goes out after what an earlier run left", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  await dies(store, cluster, "1");
  for (const text of ["2", "3"]) {
    const run = withoutNetwork(store, cluster);
    run.client.send({ to: "bob", text }).catch(() => {});
    await run.clock.advance(0);
  }
  const { client, clock } = await online({ store }, cluster);
  await clock.advance(0);
  assert.deepEqual(stored(cluster), ["1", "2", "3"]);
  client.close();
});

test("one that cannot be encoded is told as unsent and deleted, and those behind it go out", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  const run = withoutNetwork(store, cluster);
  await run.clock.advance(0);
  run.client.send({ to: "bob", customType: 7, data: Uint8Array.of(1) }).catch(() => {});
  run.client.send({ to: "bob", text: "behind it" }).catch(() => {});
  await run.clock.advance(0);
  for (const key of store.keys("").filter((other) => other.includes("/o/"))) {
    const value = unseal(store.read([key])[0] ?? "") as unknown[];
    const said = value[4] as unknown[];
    if (said[0] === "c") said[1] = -1;
    store.write(new Map([[key, seal(value)]]));
  }
  const { client, clock, transport, unsent } = withoutNetwork(store, cluster);
  transport.down.clear();
  await clock.advance(30_000);
  assert.deepEqual(
    unsent.map(({ error }) => error.code),
    ["invalid_argument"],
  );
  assert.deepEqual([stored(cluster), left(store)], [["behind it"], 0]);
  client.close();
});

test("what never went out can go out at any age; from then on its age counts by the cluster's time", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  (await online({ store }, cluster)).client.close();
  const typed = withoutNetwork(store, cluster);
  typed.client.send({ to: "bob", text: "hi" }).catch(() => {});
  await typed.clock.advance(0);
  cluster.now += 100 * HOUR;
  // A device whose clock is a year behind.
  const sends = fixture({ store, owner: OWNER }, cluster);
  sends.clock.set(-365 * 24 * HOUR);
  cluster.beforeSend = (request) => {
    cluster.say("alice", "bob", "hi", request.clientMessageId);
    return true;
  };
  sends.client.connect().catch(() => {});
  await sends.clock.advance(0);
  assert.deepEqual(stored(cluster), ["hi"]);
  cluster.beforeSend = undefined;
  cluster.now += 19 * HOUR;
  const soon = await online({ store }, cluster);
  await soon.clock.advance(0);
  assert.deepEqual([stored(cluster), left(store)], [["hi"], 0], "known, and not stored again");
  soon.client.close();
});

test("what was written offline counts as never sent, also after an earlier session", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  const run = await online({ store }, cluster);
  for (const url of ["ws://one/ws", "ws://two/ws"]) run.transport.down.add(url);
  run.transport.last.cut();
  run.client.send({ to: "bob", text: "hi" }).catch(() => {});
  await run.clock.advance(0);
  cluster.now += 100 * HOUR;
  const next = await online({ store }, cluster);
  await next.clock.advance(0);
  assert.deepEqual(stored(cluster), ["hi"]);
  next.client.close();
});

test("an old message is not sent again either when its connection comes back after a day", async () => {
  const { client, clock, cluster, transport } = await online({ sendTimeoutMs: 100 * HOUR });
  cluster.beforeSend = (request) => {
    cluster.say("alice", "bob", "hi", request.clientMessageId);
    return true;
  };
  const refused = assert.rejects(client.send({ to: "bob", text: "hi" }), /too old to be sent again/);
  await clock.advance(0);
  cluster.beforeSend = undefined;
  for (const event of cluster.log("alice", "bob")) if (event.body) event.body.value.clientMessageId = "forgotten";
  for (const url of ["ws://one/ws", "ws://two/ws"]) transport.down.add(url);
  transport.last.cut();
  await clock.advance(30 * HOUR);
  cluster.now += 30 * HOUR;
  transport.down.clear();
  await clock.advance(60_000);
  await refused;
  assert.deepEqual(stored(cluster), ["hi"]);
  client.close();
});

test("what timed out without ever going out can be sent again by hand, whatever the clock of the device says", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  (await online({ store }, cluster)).client.close();
  const { client, clock, transport } = withoutNetwork(store, cluster);
  clock.set(-365 * 24 * HOUR);
  const timeline = client.timeline({ to: "bob" });
  client.send({ to: "bob", text: "hi", clientMessageId: "m" }).catch(() => {});
  await clock.advance(60_000);
  assert.deepEqual(
    timeline.snapshot().pending.map(({ error, left: out }) => [error?.code, out]),
    [["timeout", false]],
  );
  transport.down.clear();
  await clock.advance(30_000);
  await Promise.all([timeline.retry("m"), clock.advance(0)]);
  assert.deepEqual([stored(cluster), timeline.snapshot().pending], [["hi"], []]);
  client.close();
});

test("a retry by hand that comes too late is refused, as it may have been stored", async () => {
  const { client, clock, cluster, transport } = await online();
  const timeline = client.timeline({ to: "bob" });
  cluster.beforeSend = () => true;
  client.send({ to: "bob", text: "hi", clientMessageId: "m" }).catch(() => {});
  await clock.advance(60_000);
  transport.last.cut();
  await clock.advance(19 * HOUR);
  cluster.beforeSend = () => cluster.refuse(400);
  timeline.retry("m").catch(() => {});
  await clock.advance(60_000);
  cluster.beforeSend = undefined;
  await clock.advance(1 * HOUR);
  const refused = assert.rejects(timeline.retry("m"), /too old to be sent again/);
  await clock.advance(0);
  await refused;
  assert.deepEqual(stored(cluster), []);
  assert.match(timeline.snapshot().pending[0]?.error?.message ?? "", /too old/, "it is shown still");
  client.close();
});
