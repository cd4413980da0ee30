import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CancelledError,
  ConflictError,
  PermissionError,
  QueueFullError,
  RequestError,
  TimedOutError,
} from "../../src/index.js";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import type { FakeCluster } from "../support/fake-cluster.js";
import { fixture, online, texts } from "../support/fixture.js";

/** Texts of all sends that reached the cluster, resends included. */
function sent(cluster: FakeCluster): string[] {
  return cluster.requests.flatMap((r) => (r.$case === "send" ? [String(r.value.content?.kind?.value)] : []));
}

test("a send resolves with its place, and the own message is an event once", async () => {
  const { client, clock, events, transport } = await online();
  const [result] = await Promise.all([client.send({ to: "bob", text: "hi" }), clock.advance(0)]);
  assert.equal(result.seq, 1);
  assert.equal(result.conversationId, client.conversationIdWith("bob"));
  assert.equal(result.duplicate, false);
  assert.deepEqual(texts(events), ["hi"]);
  transport.last.cut();
  await clock.advance(1_000);
  assert.equal(events.length, 1, "the reconnect does not bring it again");
  client.close();
});

test("own messages take their place among those of others", async () => {
  const { client, clock, cluster, events } = await online();
  cluster.pushes = (event) => event.seq !== 1;
  cluster.say("bob", "alice", "missed push");
  await Promise.all([client.send({ to: "bob", text: "mine" }), clock.advance(0)]);
  assert.deepEqual(texts(events), ["missed push", "mine"]);
  client.close();
});

test("sends from before the log-in go out in call order", async () => {
  const { client, clock, cluster, events } = fixture();
  void client.connect();
  const all = Promise.all(["a", "b", "c"].map((text) => client.send({ to: "bob", text })));
  await clock.advance(0);
  assert.deepEqual(
    (await all).map((r) => r.seq),
    [1, 2, 3],
  );
  assert.deepEqual(sent(cluster), ["a", "b", "c"]);
  assert.deepEqual(texts(events), ["a", "b", "c"]);
  client.close();
});

test("unanswered sends go again in order with the same ids, and what was stored comes once", async () => {
  const { client, clock, cluster, events, transport } = await online();
  // Stores the first, then the answers stop: nobody knows.
  cluster.pushes = () => false;
  cluster.beforeSend = (request) => {
    if (String(request.content?.kind?.value) === "1") cluster.say("alice", "bob", "1", request.clientMessageId);
    return true;
  };
  const all = Promise.all(["1", "2", "3"].map((text) => client.send({ to: "bob", text })));
  await clock.advance(0);
  cluster.beforeSend = undefined;
  transport.last.cut();
  await clock.advance(1_000);
  const results = await all;
  assert.deepEqual(
    results.map((r) => [r.seq, r.duplicate]),
    [
      [1, true],
      [2, false],
      [3, false],
    ],
  );
  assert.deepEqual(sent(cluster), ["1", "2", "3", "1", "2", "3"]);
  assert.deepEqual(texts(events), ["1", "2", "3"]);
  client.close();
});

test("sending the same id again is a duplicate; with another payload a conflict", async () => {
  const { client, clock, events } = await online();
  const [first] = await Promise.all([client.send({ to: "bob", text: "x", clientMessageId: "id" }), clock.advance(0)]);
  const [again] = await Promise.all([client.send({ to: "bob", text: "x", clientMessageId: "id" }), clock.advance(0)]);
  assert.deepEqual([again.seq, again.timeMs, again.duplicate], [first.seq, first.timeMs, true]);
  const conflict = assert.rejects(client.send({ to: "bob", text: "y", clientMessageId: "id" }), ConflictError);
  await clock.advance(0);
  await conflict;
  assert.equal(events.length, 1);
  client.close();
});

test("a retryable error holds the lane; all go in order, none overtakes", async () => {
  const { client, clock, cluster, events } = await online();
  let refusals = 3;
  cluster.beforeSend = () => {
    if (refusals === 0) return undefined;
    refusals -= 1;
    return cluster.refuse(ErrorCode.ERROR_CODE_OVERLOADED, 100);
  };
  const all = Promise.all(["1", "2", "3"].map((text) => client.send({ to: "bob", text })));
  await clock.advance(99);
  assert.deepEqual(sent(cluster), ["1", "2", "3"], "once each, and then it waits");
  await clock.advance(10_000);
  assert.deepEqual(
    (await all).map((r) => r.seq),
    [1, 2, 3],
  );
  assert.deepEqual(sent(cluster), Array(4).fill(["1", "2", "3"]).flat());
  assert.deepEqual(texts(events), ["1", "2", "3"]);
  client.close();
});

test("a final error fails its own send and lets the next ones go", async () => {
  const { client, clock, cluster } = await online();
  cluster.beforeSend = (request) =>
    request.content?.kind?.value === "1" ? cluster.refuse(ErrorCode.ERROR_CODE_PERMISSION_DENIED) : undefined;
  const one = assert.rejects(client.send({ to: "bob", text: "1" }), PermissionError);
  const [two] = await Promise.all([client.send({ to: "bob", text: "2" }), clock.advance(0)]);
  await one;
  assert.equal(two.seq, 1);
  client.close();
});

test("a stuck conversation does not hold up another", async () => {
  const { client, clock, cluster } = await online();
  cluster.beforeSend = (request) =>
    request.target?.value === "bob" ? cluster.refuse(ErrorCode.ERROR_CODE_UNAVAILABLE) : undefined;
  const stuck = assert.rejects(client.send({ to: "bob", text: "1" }), TimedOutError);
  const [result] = await Promise.all([client.send({ to: "carol", text: "2" }), clock.advance(0)]);
  assert.equal(result.seq, 1);
  await clock.advance(60_000);
  await stuck;
  client.close();
});

test("a send that timed out is retryable, and a late acknowledgement still becomes an event", async () => {
  const { client, clock, cluster, events, transport } = await online({ sendTimeoutMs: 1_000 });
  let late: (() => void) | undefined;
  cluster.pushes = () => false;
  cluster.beforeSend = (request) => {
    const { conversationId, seq, timeMs } = cluster.say("alice", "bob", "x", request.clientMessageId);
    const requestId = 3;
    late = () =>
      transport.last.session.push(
        { $case: "send", value: { conversationId, seq, timeMs, duplicate: false } },
        requestId,
      );
    return true;
  };
  const failed = client.send({ to: "bob", text: "x" }).catch((error: unknown) => error);
  await clock.advance(1_000);
  const error = await failed;
  assert.ok(error instanceof TimedOutError && error.retryable);
  late?.();
  await clock.advance(0);
  assert.deepEqual(texts(events), ["x"]);
  client.close();
});

test("the outbox is bounded", async () => {
  const { client, clock } = fixture({ outboxMax: 2 });
  const kept = [client.send({ to: "bob", text: "1" }), client.send({ to: "bob", text: "2" })];
  await assert.rejects(client.send({ to: "bob", text: "3" }), QueueFullError);
  void client.connect();
  await clock.advance(0);
  assert.equal((await Promise.all(kept)).length, 2);
  client.close();
});

test("calls that come to nothing take no place in the outbox", async () => {
  const { client, clock } = await online({ outboxMax: 2 });
  const stop = new AbortController();
  stop.abort();
  const bad: object[] = [
    { to: "bob", text: "x", signal: stop.signal },
    { to: "bob" },
    { to: "bob", text: 7 },
    { to: undefined, text: "x" },
    { text: "x" },
    { to: "bob", customType: 1 },
    { to: "bob", customType: "1", data: new Uint8Array() },
    { to: "bob", customType: 1, json: 1n },
  ];
  for (const options of bad) {
    await assert.rejects(client.send(options as never), { name: /RequestError|CancelledError|TypeError/ });
  }
  const sent = [client.send({ to: "bob", text: "1" }), client.send({ to: "bob", text: "2" })];
  await Promise.all([...sent, clock.advance(0)]);
  client.close();
  assert.equal(clock.pending, 0);
});

test("a customType that is no number of 32 bits is refused at once, and both ends of the range go out", async () => {
  const { client, clock, cluster } = await online({ outboxMax: 2, sendsAheadMax: 1 });
  const data = Uint8Array.of(1);
  for (const customType of [-1, 2 ** 32, 0.5, Number.NaN]) {
    const refused = client.send({ to: "bob", customType, data });
    await assert.rejects(refused, { name: "RequestError", code: "invalid_argument", field: "content" });
  }
  const sends = [0, 2 ** 32 - 1].map((customType) => client.send({ to: "bob", customType, data }));
  await Promise.all([...sends, clock.advance(0)]);
  assert.equal(cluster.log("alice", "bob").length, 2);
  client.close();
  assert.equal(clock.pending, 0);
});

test("what cannot be encoded rejects, and leaves nothing behind", async () => {
  const { client, clock } = await online({ requestsWaitingMax: 1 });
  for (let round = 0; round < 3; round += 1) {
    const asked = [client.markRead({ to: "bob", seq: -1 }), clock.advance(0)];
    await assert.rejects(Promise.all(asked), { name: "RequestError", code: "invalid_argument" });
  }
  client.close();
  assert.equal(clock.pending, 0);
});

test("a thousand sends respect the gateway's limit of requests in flight", async () => {
  const { client, clock, cluster, events } = await online();
  const all = Promise.all(
    Array.from({ length: 1_000 }, (_, i) => client.send({ to: `user${i % 7}`, text: String(i) })),
  );
  await clock.advance(0);
  await all;
  assert.equal(events.length, 1_000);
  assert.equal(sent(cluster).length, 1_000);
  client.close();
});

test("content and frames above the limit are refused here: the gateway would close the connection", async () => {
  const { client, clock, transport } = await online();
  await assert.rejects(client.send({ to: "bob", text: "ü".repeat(20_000) }), { code: "payload_too_large" });
  await assert.rejects(client.send({ to: "x".repeat(70_000), text: "hi" }), RequestError);
  await assert.rejects(client.history({ to: "x".repeat(70_000) }), { code: "frame_too_large" });
  await clock.advance(0);
  assert.equal(transport.links.length, 1);
  client.close();
});

test("custom content passes through", async () => {
  const { client, clock, events } = await online();
  const data = Uint8Array.of(0, 1, 255);
  await Promise.all([client.send({ to: "bob", customType: 7, data }), clock.advance(0)]);
  const page = await client.history({ to: "bob" });
  for (const event of [events[0], page.events[0]]) {
    assert.ok(event?.type === "message" && event.content.type === "custom");
    assert.deepEqual([event.content.customType, [...event.content.data]], [7, [0, 1, 255]]);
  }
  client.close();
});

test("a signal cancels what waits", async () => {
  const { client, clock, cluster } = fixture();
  const stop = new AbortController();
  const send = assert.rejects(client.send({ to: "bob", text: "1", signal: stop.signal }), CancelledError);
  const read = assert.rejects(client.history({ to: "bob", signal: stop.signal }), CancelledError);
  stop.abort();
  await Promise.all([send, read]);
  await assert.rejects(client.send({ to: "bob", text: "2", signal: stop.signal }), CancelledError);
  void client.connect();
  await clock.advance(0);
  assert.deepEqual(sent(cluster), []);
  client.close();
});

test("reads wait for the connection and survive its loss; they end at their time-out", async () => {
  const { client, clock, cluster, transport } = await online();
  cluster.say("bob", "alice", "x");
  transport.last.silent = true;
  const page = client.history({ to: "bob" });
  transport.last.cut();
  await clock.advance(1_000);
  assert.equal((await page).headSeq, 1);
  transport.last.silent = true;
  const late = assert.rejects(client.history({ to: "bob" }), TimedOutError);
  await clock.advance(20_000);
  await late;
  client.close();
});

test("a rolling restart fails no send", async () => {
  const { client, clock, cluster, events, transport } = await online();
  const results: Promise<unknown>[] = [];
  for (let i = 0; i < 60; i += 1) {
    results.push(client.send({ to: "bob", text: String(i) }));
    if (i % 20 === 5) {
      cluster.beforeSend = () => cluster.refuse(ErrorCode.ERROR_CODE_SHUTTING_DOWN);
      cluster.pushAll({ $case: "reconnect", value: { withinMs: 500 } });
    }
    if (i % 20 === 10) {
      cluster.beforeSend = undefined;
      transport.last.cut(1001);
    }
    await clock.advance(100);
  }
  await clock.advance(30_000);
  await Promise.all(results);
  assert.deepEqual(
    texts(events),
    Array.from({ length: 60 }, (_, i) => String(i)),
  );
  client.close();
});
