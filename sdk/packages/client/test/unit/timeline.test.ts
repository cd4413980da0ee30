// What is shown: the same object until something changes, and told once for many changes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConversationEvent, MemoryStore, ParlanceError } from "../../src/index.js";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { fixture, GATEWAYS, online, texts } from "../support/fixture.js";

const BOB = "d:5:alice:bob";

test("snapshots stay the same until something changes, and others stay the same then too", async () => {
  const { client, clock, cluster } = await online();
  cluster.say("bob", "alice", "1");
  cluster.say("carol", "alice", "1");
  await clock.advance(0);
  const [all, bob, carol] = [client.conversations(), client.conversation(BOB), client.conversation("d:5:alice:carol")];
  assert.equal(client.conversations(), all);
  assert.equal(client.conversation(BOB), bob);
  const timeline = client.timeline({ to: "bob" });
  assert.equal(client.timeline({ conversationId: BOB }), timeline);
  const before = timeline.snapshot();
  assert.equal(timeline.snapshot(), before);
  // The cluster says again what is known.
  cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
  await clock.advance(0);
  assert.equal(client.conversations(), all);
  cluster.say("bob", "alice", "2");
  await clock.advance(0);
  assert.notEqual(client.conversations(), all);
  assert.notEqual(client.conversation(BOB), bob);
  assert.equal(client.conversation("d:5:alice:carol"), carol);
  assert.notEqual(timeline.snapshot(), before);
  client.close();
});

test("watchers are told once for what comes together, and of their own conversation only", async () => {
  const { client, clock, cluster } = await online();
  const told = { all: 0, bob: 0, carol: 0, timeline: 0 };
  const count = (what: keyof typeof told) => () => {
    told[what] += 1;
  };
  const stops = [
    client.watchConversations(count("all")),
    client.watchConversation(BOB, count("bob")),
    client.watchConversation("d:5:alice:carol", count("carol")),
    client.timeline({ to: "bob" }).subscribe(count("timeline")),
  ];
  cluster.pushes = () => false;
  for (let i = 0; i < 50; i += 1) cluster.say("bob", "alice", String(i), `b${i}`);
  cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
  await clock.advance(0);
  assert.ok(told.all <= 3 && told.bob <= 3 && told.timeline <= 2, JSON.stringify(told));
  assert.ok(told.bob > 0 && told.timeline > 0);
  assert.equal(told.carol, 0);
  const before = { ...told };
  for (const stop of stops) stop();
  cluster.pushes = () => true;
  cluster.say("bob", "alice", "more");
  await clock.advance(0);
  assert.deepEqual(told, before);
  client.close();
});

test("a timeline pages back to the beginning, and grows at its end", async () => {
  const cluster = new FakeCluster();
  for (let i = 1; i <= 120; i += 1) cluster.say("bob", "alice", String(i), `b${i}`);
  const { client, clock } = await online({}, cluster);
  const timeline = client.timeline({ to: "bob" });
  const stop = timeline.subscribe(() => {});
  const load = () => Promise.all([timeline.loadOlder(), clock.advance(0)]);
  const span = (events: readonly ConversationEvent[]) => [events[0]?.seq, events.at(-1)?.seq, events.length];
  await load();
  assert.deepEqual(span(timeline.snapshot().events), [71, 120, 50]);
  cluster.say("bob", "alice", "121");
  await load();
  assert.deepEqual(span(timeline.snapshot().events), [21, 121, 101]);
  await load();
  assert.deepEqual([...span(timeline.snapshot().events), timeline.snapshot().more], [1, 121, 121, false]);
  stop();
  assert.deepEqual(span(timeline.snapshot().events), [72, 121, 50]);
  assert.ok(timeline.snapshot().more, "nobody looks: a page is kept, and the rest can be had again");
  client.close();
});

/** Seqs that do not follow on the one before. */
const holes = (events: readonly ConversationEvent[]): number[] =>
  events.filter(({ seq }, at) => at > 0 && seq !== (events[at - 1]?.seq ?? 0) + 1).map(({ seq }) => seq);

for (const bytes of [20, 1_000, 4_000]) {
  for (const when of ["lost", "back"]) {
    test(`a timeline opened when the line is ${when} has no gap and all that was missed, of ${bytes} bytes each`, async () => {
      const cluster = new FakeCluster();
      for (let i = 1; i <= 30; i += 1) cluster.say("bob", "alice", `old${i}`, `o${i}`);
      const { client, clock, transport, events } = await online({}, cluster);
      for (const gateway of GATEWAYS) transport.down.add(gateway);
      transport.last.cut();
      for (let i = 1; i <= 200; i += 1) cluster.say("bob", "alice", `${i} `.padEnd(bytes, "x"), `b${i}`);
      const timeline = client.timeline({ to: "bob" });
      const stop = timeline.subscribe(() => assert.deepEqual(holes(timeline.snapshot().events), []));
      const load = () => void timeline.loadOlder();
      if (when === "lost") load();
      else client.on("state", ({ state }) => state === "online" && load());
      await clock.advance(2_000);
      transport.down.clear();
      await clock.advance(60_000);
      assert.equal(events.length, 200);
      assert.equal(timeline.snapshot().events.at(-1)?.seq, 230);
      while (timeline.snapshot().more) await Promise.all([timeline.loadOlder(), clock.advance(0)]);
      assert.deepEqual([holes(timeline.snapshot().events), timeline.snapshot().events.length], [[], 230]);
      stop();
      client.close();
    });
  }
}

test("who leaves while older events load leaves no gap", async () => {
  const cluster = new FakeCluster();
  for (let i = 1; i <= 200; i += 1) cluster.say("bob", "alice", String(i), `b${i}`);
  const { client, clock } = await online({}, cluster);
  const timeline = client.timeline({ to: "bob" });
  const stop = timeline.subscribe(() => {});
  const load = () => Promise.all([timeline.loadOlder(), clock.advance(0)]);
  await load();
  await load();
  const loading = timeline.loadOlder();
  stop();
  await Promise.all([loading, clock.advance(0)]);
  assert.deepEqual(holes(timeline.snapshot().events), []);
  while (timeline.snapshot().more) await load();
  assert.deepEqual([holes(timeline.snapshot().events), timeline.snapshot().events.length], [[], 200]);
  client.close();
});

test("a timeline shows nothing of a cluster that was set up anew since", async () => {
  const store = new MemoryStore();
  const before = await online({ store });
  for (let i = 1; i <= 3; i += 1) before.cluster.say("bob", "alice", `old${i}`, `o${i}`);
  await before.clock.advance(0);
  before.client.close();
  const cluster = new FakeCluster();
  cluster.say("bob", "alice", "new", "n");
  const { client, clock, transport } = fixture({ store, owner: { appId: "demo", userId: "alice" } }, cluster);
  for (const gateway of GATEWAYS) transport.down.add(gateway);
  client.connect().catch(() => {});
  const timeline = client.timeline({ to: "bob" });
  const stop = timeline.subscribe(() => {});
  await clock.advance(0);
  await Promise.all([timeline.loadOlder(), clock.advance(0)]);
  assert.deepEqual(texts(timeline.snapshot().events), ["old1", "old2", "old3"]);
  transport.down.clear();
  await clock.advance(10_000);
  assert.deepEqual(texts(timeline.snapshot().events), ["new"]);
  stop();
  client.close();
});

test("of timelines that nobody watches the last fifty keep their events", async () => {
  const cluster = new FakeCluster();
  const names = Array.from({ length: 60 }, (_, at) => `user${at}`);
  for (const name of names) cluster.say(name, "alice", "1", name);
  const { client, clock } = await online({}, cluster);
  for (const to of names) await Promise.all([client.timeline({ to }).loadOlder(), clock.advance(0)]);
  const kept = names.map((to) => client.timeline({ to }).snapshot().events.length);
  assert.deepEqual(kept.slice(-50), Array(50).fill(1));
  assert.ok(kept.slice(0, 8).every((count) => count === 0));
  client.close();
});

test("a watched timeline grows up to a bound, and what went can be had again", async () => {
  const { client, clock, cluster } = await online();
  const timeline = client.timeline({ to: "bob" });
  const stop = timeline.subscribe(() => {});
  for (let i = 1; i <= 2_100; i += 1) cluster.say("bob", "alice", String(i), `b${i}`);
  await clock.advance(0);
  const { events, more } = timeline.snapshot();
  assert.deepEqual([events.length, events.at(-1)?.seq, more, holes(events)], [2_000, 2_100, true, []]);
  await Promise.all([timeline.loadOlder(), clock.advance(0)]);
  assert.equal(timeline.snapshot().events[0]?.seq, 51);
  stop();
  client.close();
});

test("a watcher that throws is told of, and keeps no other from hearing", async () => {
  const { client, clock, cluster, errors } = await online();
  let heard = 0;
  client.watchConversations(() => {
    throw new Error("mine");
  });
  client.watchConversations(() => {
    heard += 1;
  });
  cluster.say("bob", "alice", "1");
  await clock.advance(0);
  assert.ok(heard > 0);
  assert.equal(errors[0]?.code, "listener");
  client.close();
});

test("what was on its way when the client was closed is shown as failed", async () => {
  const { client, clock, cluster } = await online();
  cluster.beforeSend = () => true;
  const timeline = client.timeline({ to: "bob" });
  const sent = client.send({ to: "bob", text: "1" }).catch(() => {});
  await clock.advance(0);
  client.close();
  await sent;
  const [{ error, content } = {}] = timeline.snapshot().pending;
  assert.deepEqual([error?.code, content], ["closed", { type: "text", text: "1" }]);
});

test("own messages are shown on their way, as failed ones, and as events", async () => {
  const { client, clock, cluster } = await online();
  const timeline = client.timeline({ to: "bob" });
  const shown = () =>
    timeline
      .snapshot()
      .pending.map(({ content, error }) => [content.type === "text" ? content.text : "?", error?.code ?? "on its way"]);
  cluster.beforeSend = () => cluster.refuse(ErrorCode.ERROR_CODE_PERMISSION_DENIED);
  const failed = client.send({ to: "bob", text: "1" }).catch((error: unknown) => error);
  assert.deepEqual(shown(), [["1", "on its way"]]);
  await clock.advance(0);
  assert.ok((await failed) instanceof ParlanceError);
  assert.deepEqual(shown(), [["1", "permission_denied"]]);
  cluster.beforeSend = undefined;
  const [{ clientMessageId = "" } = {}] = timeline.snapshot().pending;
  const [again] = await Promise.all([timeline.retry(clientMessageId), clock.advance(0)]);
  assert.equal(again.clientMessageId, clientMessageId);
  assert.deepEqual([shown(), texts(timeline.snapshot().events)], [[], ["1"]]);
  await assert.rejects(timeline.retry(clientMessageId), TypeError);
  client.close();
});

test("history that cannot be had is told, and a conversation that does not exist yet has none", async () => {
  const { client, clock } = await online();
  const nobody = client.timeline({ conversationId: "d:5:alice:nobody" });
  await Promise.all([nobody.loadOlder(), clock.advance(0)]);
  assert.deepEqual([nobody.snapshot().more, nobody.snapshot().error], [false, undefined]);
  const others = client.timeline({ to: "bob" });
  client.close();
  await others.loadOlder();
  assert.equal(others.snapshot().error?.code, "closed");
  assert.ok(others.snapshot().more && !others.snapshot().loading);
  assert.throws(() => fixture().client.timeline({ to: "bob" }), { code: "not_logged_in" });
});
