// What is shown: the same object until something changes, and told once for many changes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConversationEvent, ParlanceError } from "../../src/index.js";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { fixture, online, texts } from "../support/fixture.js";

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
