import assert from "node:assert/strict";
import { test } from "node:test";
import type { GapNotice, ReadChange } from "../../src/index.js";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import { HeldBytes } from "../../src/sync/held.js";
import { Sequence } from "../../src/sync/sequence.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { fixture, online, texts } from "../support/fixture.js";

const CONVERSATION = "d:5:alice:bob";

function seqs(events: readonly { seq: number }[]): number[] {
  return events.map((event) => event.seq);
}

test("pushes are handed out in order", async () => {
  const { client, clock, cluster, events } = await online();
  for (const text of ["a", "b", "c"]) cluster.say("bob", "alice", text);
  await clock.advance(0);
  assert.deepEqual(texts(events), ["a", "b", "c"]);
  client.close();
});

test("what is older than the first log-in is history, not news", async () => {
  const cluster = new FakeCluster();
  cluster.say("bob", "alice", "old");
  const { client, clock, events } = await online({}, cluster);
  cluster.say("bob", "alice", "new");
  await clock.advance(0);
  assert.deepEqual(texts(events), ["new"]);
  assert.deepEqual(texts((await client.history({ to: "bob" })).events), ["old", "new"]);
  client.close();
});

test("a shard that does not answer keeps no other conversation back, and its own old events are no news", async () => {
  const cluster = new FakeCluster();
  cluster.say("bob", "alice", "old");
  cluster.say("carol", "alice", "old");
  cluster.lost.add(CONVERSATION);
  const { client, clock, events } = await online({}, cluster);
  cluster.say("carol", "alice", "new of carol");
  await clock.advance(1_000);
  assert.deepEqual(texts(events), ["new of carol"]);
  cluster.lost.clear();
  await clock.advance(60_000);
  cluster.say("bob", "alice", "new of bob");
  await clock.advance(0);
  assert.deepEqual(texts(events), ["new of carol", "new of bob"]);
  client.close();
});

test("a conversation that turns up by its third event starts at its first", async () => {
  const { client, clock, cluster, events } = await online();
  cluster.pushes = (event) => event.seq === 3;
  for (const text of ["a", "b", "c"]) cluster.say("bob", "alice", text);
  await clock.advance(0);
  assert.deepEqual(texts(events), ["a", "b", "c"]);
  client.close();
});

test("a gap is filled from history, and what was pushed twice comes once", async () => {
  const { client, clock, cluster, events } = await online();
  cluster.pushes = (event) => ![2, 3, 6].includes(event.seq);
  const all = Array.from({ length: 7 }, (_, i) => cluster.say("bob", "alice", `m${i + 1}`));
  for (const event of [...all].reverse()) cluster.pushAll({ $case: "event", value: event });
  await clock.advance(1_000);
  assert.deepEqual(seqs(events), [1, 2, 3, 4, 5, 6, 7]);
  client.close();
});

test("what was missed while away comes after the reconnect, over several pages and conversations", async () => {
  const { client, clock, cluster, events, transport } = await online();
  cluster.say("bob", "alice", "first");
  await clock.advance(0);
  transport.last.cut();
  for (let i = 0; i < 450; i += 1) cluster.say("bob", "alice", `b${i}`);
  for (let i = 0; i < 12; i += 1) cluster.say(`user${i}`, "alice", "hi");
  let synced = 0;
  client.on("synced", () => {
    synced += 1;
  });
  await clock.advance(1_000);
  assert.deepEqual(
    seqs(events.filter((e) => e.conversationId === CONVERSATION)),
    Array.from({ length: 451 }, (_, i) => i + 1),
  );
  assert.equal(events.length, 451 + 12);
  assert.equal(synced, 1);
  client.close();
});

test("a resync notice brings what was not pushed", async () => {
  const { client, clock, cluster, events } = await online();
  cluster.pushes = () => false;
  cluster.say("bob", "alice", "silent");
  await clock.advance(0);
  assert.equal(events.length, 0);
  cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
  await clock.advance(0);
  assert.deepEqual(texts(events), ["silent"]);
  client.close();
});

test("pushes that come while the first list is under way are neither lost nor doubled", async () => {
  const cluster = new FakeCluster();
  cluster.say("bob", "alice", "old");
  const { client, clock, events, transport } = fixture({}, cluster);
  void client.connect();
  let said = false;
  cluster.pushes = (event) => {
    said = true;
    return event.seq > 0;
  };
  // Speaks between the log-in and the answer to the list.
  const handle = cluster.handle.bind(cluster);
  cluster.handle = (session, body) => {
    if (body.$case === "conversations" && !said) {
      cluster.say("bob", "alice", "while listing");
      cluster.say("carol", "alice", "new friend");
    }
    return handle(session, body);
  };
  await clock.advance(0);
  assert.deepEqual(texts(events).sort(), ["new friend", "while listing"]);
  transport.last.cut();
  await clock.advance(1_000);
  assert.equal(events.length, 2);
  client.close();
});

test("events that retention took are told as a gap, and the rest goes on", async () => {
  const { client, clock, cluster, events, transport } = await online();
  cluster.say("bob", "alice", "1");
  await clock.advance(0);
  transport.last.cut();
  for (let i = 2; i <= 6; i += 1) cluster.say("bob", "alice", String(i));
  cluster.drop("bob", "alice", 5);
  const gaps: GapNotice[] = [];
  client.on("gap", (gap) => gaps.push(gap));
  await clock.advance(1_000);
  assert.deepEqual(gaps, [{ conversationId: CONVERSATION, fromSeq: 2, toSeq: 4 }]);
  assert.deepEqual(seqs(events), [1, 5, 6]);
  client.close();
});

test("a fetch that is refused for a moment is tried again", async () => {
  const { client, clock, cluster, events } = await online();
  const handle = cluster.handle.bind(cluster);
  let refusals = 3;
  cluster.handle = (session, body) => {
    if (body.$case === "history" && refusals > 0) {
      refusals -= 1;
      cluster.refuse(ErrorCode.ERROR_CODE_UNAVAILABLE);
    }
    return handle(session, body);
  };
  cluster.pushes = (event) => event.seq === 2;
  cluster.say("bob", "alice", "a");
  cluster.say("bob", "alice", "b");
  await clock.advance(10_000);
  assert.deepEqual(texts(events), ["a", "b"]);
  client.close();
});

test("a fetch that is refused with a time to wait waits for it", async () => {
  const { client, clock, cluster, events, transport } = await online();
  transport.last.cut();
  cluster.say("bob", "alice", "missed");
  const handle = cluster.handle.bind(cluster);
  let asked = 0;
  cluster.handle = (session, body) => {
    if (body.$case !== "history") return handle(session, body);
    asked += 1;
    return asked === 1 ? cluster.refuse(ErrorCode.ERROR_CODE_OVERLOADED, 5_000) : handle(session, body);
  };
  await clock.advance(5_000);
  assert.deepEqual([asked, events.length], [1, 0]);
  await clock.advance(1_000);
  assert.deepEqual([asked, events.length], [2, 1]);
  client.close();
});

test("a conversation whose shard is away holds up no other one", async () => {
  const { client, clock, cluster, events, transport } = await online();
  transport.last.cut();
  for (let i = 0; i < 3; i += 1) cluster.say("bob", "alice", `b${i}`);
  for (let user = 0; user < 8; user += 1) cluster.say(`user${user}`, "alice", "hi");
  const handle = cluster.handle.bind(cluster);
  let away = true;
  cluster.handle = (session, body) => {
    const target = body.$case === "history" ? body.value.target?.value : undefined;
    if (away && target === CONVERSATION) cluster.refuse(ErrorCode.ERROR_CODE_UNAVAILABLE);
    return handle(session, body);
  };
  await clock.advance(300);
  assert.equal(events.length, 8, "all others are there at once");
  away = false;
  await clock.advance(2_000);
  assert.equal(events.length, 11);
  client.close();
});

test("what was being fetched when the client was closed comes after the next connect, and synced behind it", async () => {
  for (const already of [0, 2]) {
    const { client, clock, cluster, events, transport } = await online();
    transport.last.cut();
    const peers = ["bob", "carol", "dave", "erin", "frank", "grace"];
    for (const peer of peers) cluster.say(peer, "alice", `missed of ${peer}`);
    const handle = cluster.handle.bind(cluster);
    let asked = 0;
    cluster.handle = (session, body) => {
      if (body.$case !== "history") return handle(session, body);
      asked += 1;
      return asked <= already ? handle(session, body) : undefined;
    };
    await clock.advance(1_000);
    assert.ok(asked > already, "some are under way");
    client.close();
    await clock.advance(0);
    cluster.handle = handle;
    const atSynced: number[] = [];
    client.on("synced", () => atSynced.push(events.length));
    client.connect().catch(() => {});
    await clock.advance(1_000);
    assert.deepEqual(
      texts(events).sort(),
      peers.map((peer) => `missed of ${peer}`),
    );
    assert.deepEqual(atSynced, [peers.length]);
    client.close();
  }
});

test("a fetch that fails inside the cluster is tried again, and synced waits for it", async () => {
  const { client, clock, cluster, events, transport } = await online();
  transport.last.cut();
  cluster.say("bob", "alice", "missed");
  const handle = cluster.handle.bind(cluster);
  cluster.handle = (session, body) =>
    body.$case === "history" ? cluster.refuse(ErrorCode.ERROR_CODE_INTERNAL) : handle(session, body);
  let synced = 0;
  client.on("synced", () => {
    synced += 1;
  });
  await clock.advance(10_000);
  assert.deepEqual([events.length, synced], [0, 0]);
  cluster.handle = handle;
  await clock.advance(60_000);
  assert.deepEqual([texts(events), synced], [["missed"], 1]);
  client.close();
});

test("a fetch that is refused for good holds up nothing, and is tried again when there is reason to look", async () => {
  const { client, clock, cluster, events, transport } = await online();
  transport.last.cut();
  cluster.say("bob", "alice", "refused");
  cluster.say("carol", "alice", "missed");
  const handle = cluster.handle.bind(cluster);
  let asked = 0;
  cluster.handle = (session, body) => {
    const target = body.$case === "history" ? body.value.target?.value : undefined;
    if (target !== CONVERSATION) return handle(session, body);
    asked += 1;
    return cluster.refuse(ErrorCode.ERROR_CODE_PERMISSION_DENIED);
  };
  let synced = 0;
  client.on("synced", () => {
    synced += 1;
  });
  await clock.advance(600_000);
  assert.deepEqual([texts(events), asked, synced], [["missed"], 1, 1]);
  cluster.handle = handle;
  cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
  await clock.advance(0);
  assert.deepEqual([texts(events), synced], [["missed", "refused"], 2]);
  client.close();
});

test("unread counts follow events, reads here, and reads on another device", async () => {
  const cluster = new FakeCluster();
  cluster.say("bob", "alice", "1");
  cluster.say("bob", "alice", "2");
  const { client, clock } = await online({}, cluster);
  const unread = (): number | undefined => client.conversation(CONVERSATION)?.unreadCount;
  assert.equal(unread(), 2);
  cluster.say("bob", "alice", "3");
  cluster.say("alice", "bob", "4");
  await clock.advance(0);
  assert.equal(unread(), 3);
  assert.equal((await client.markRead({ to: "bob", seq: 1 })).unreadCount, 2);
  await clock.advance(0);
  assert.equal(unread(), 2);
  cluster.read("alice", "bob", 4);
  await clock.advance(0);
  assert.equal(unread(), 0);
  cluster.say("bob", "alice", "5");
  await clock.advance(0);
  assert.equal(unread(), 1);
  client.close();
});

test("read cursors of the peer are told once each, forward only, and also after a reconnect", async () => {
  const { client, clock, cluster, transport } = await online();
  const reads: ReadChange[] = [];
  client.on("read", (change) => reads.push(change));
  await Promise.all([client.send({ to: "bob", text: "x" }), client.send({ to: "bob", text: "y" }), clock.advance(0)]);
  cluster.read("bob", "alice", 1);
  cluster.pushAll({ $case: "readCursor", value: { conversationId: CONVERSATION, userId: "bob", readSeq: 1 } });
  await clock.advance(0);
  transport.last.cut();
  cluster.read("bob", "alice", 2);
  await clock.advance(1_000);
  assert.deepEqual(
    reads.map((r) => [r.userId, r.readSeq, r.own]),
    [
      ["bob", 1, false],
      ["bob", 2, false],
    ],
  );
  assert.equal(client.conversation(CONVERSATION)?.peerReadSeq, 2);
  client.close();
});

test("the view of conversations is sorted by the last event", async () => {
  const { client, clock, cluster } = await online();
  cluster.say("bob", "alice", "1");
  cluster.say("carol", "alice", "2");
  cluster.say("bob", "alice", "3");
  await clock.advance(0);
  assert.deepEqual(
    client.conversations().map((c) => [c.peer, c.kind, c.headSeq]),
    [
      ["bob", "direct", 2],
      ["carol", "direct", 1],
    ],
  );
  client.close();
});

test("what is held back is bounded, and fetched again", () => {
  const sequence = new Sequence("c", 1, 2, new HeldBytes(1_000_000));
  const event = (seq: number) => ({ conversationId: "c", seq, timeMs: 0, sender: "x", type: "unknown" as const });
  for (const seq of [9, 3, 2, 5]) assert.deepEqual(sequence.accept(event(seq)), []);
  assert.deepEqual(seqs(sequence.accept(event(1))), [1, 2, 3]);
  assert.equal(sequence.next, 4);
  assert.ok(sequence.behind);
  assert.equal(sequence.target, 9);
});

test("a cursor that comes before its conversation's first event is not lost", async () => {
  const { client, clock, cluster } = await online();
  cluster.pushes = () => false;
  cluster.say("alice", "bob", "from another device");
  cluster.read("bob", "alice", 1);
  await clock.advance(0);
  assert.equal(client.conversation(CONVERSATION)?.peerReadSeq, 1);
  client.close();
});
