// Several sends of one conversation on their way: quick, and nothing overtakes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { online, texts } from "../support/fixture.js";
import { SlowLine } from "../support/slow-line.js";

function sends(cluster: FakeCluster) {
  return cluster.requests.flatMap((request) => (request.$case === "send" ? [request.value] : []));
}

test("sends go out together up to the limit, and each says behind which one it comes", async () => {
  const { client, clock, cluster } = await online({ sendsAheadMax: 3 });
  cluster.beforeSend = () => true;
  for (let i = 0; i < 5; i += 1) client.send({ to: "bob", text: "x", clientMessageId: `m${i}` }).catch(() => {});
  client.send({ to: "carol", text: "x", clientMessageId: "c" }).catch(() => {});
  await clock.advance(0);
  assert.deepEqual(
    sends(cluster).map((send) => [send.clientMessageId, send.after]),
    [
      ["m0", ""],
      ["m1", "m0"],
      ["m2", "m1"],
      ["c", ""],
    ],
  );
  client.close();
});

test("a hundred sends over 150 ms of round trip take a second, not fifteen", async () => {
  const took = async (capabilities: readonly string[]): Promise<number> => {
    const cluster = new FakeCluster();
    cluster.capabilities = capabilities;
    const fix = await online({}, cluster);
    const line = { bytesPerSecond: 1_000_000, roundTripMs: 150, stallPercent: 0, stallMs: 0, tells: false };
    fix.transport.line = () => new SlowLine(fix.clock, line);
    fix.transport.last.cut();
    await fix.clock.advance(5_000);
    const from = fix.clock.now();
    let until = 0;
    const all = Array.from({ length: 100 }, (_, i) => fix.client.send({ to: "bob", text: String(i) }));
    void Promise.all(all).then(() => {
      until = fix.clock.now();
    });
    await fix.clock.advance(30_000);
    assert.deepEqual(
      texts(fix.events),
      Array.from({ length: 100 }, (_, i) => String(i)),
    );
    fix.client.close();
    return until - from;
  };
  const [pipelined, single] = [await took(["ordered_sends"]), await took([])];
  assert.ok(pipelined > 0 && pipelined < 1_500, `${pipelined} ms`);
  assert.ok(single >= 15_000, `a gateway that does not keep the order gets one at a time: ${single} ms`);
});

test("what is refused for the moment takes along what comes behind it, and all start again in order", async () => {
  const { client, clock, cluster, events } = await online();
  let refusals = 0;
  cluster.beforeSend = (request) => {
    const text = request.content?.kind?.value;
    if ((text !== "2" && text !== "4") || refusals >= 4) return undefined;
    refusals += 1;
    return cluster.refuse(ErrorCode.ERROR_CODE_OVERLOADED);
  };
  const all = Promise.all(["1", "2", "3", "4", "5"].map((text) => client.send({ to: "bob", text })));
  await clock.advance(20_000);
  assert.deepEqual(
    (await all).map((result) => result.seq),
    [1, 2, 3, 4, 5],
  );
  assert.deepEqual(texts(events), ["1", "2", "3", "4", "5"]);
  client.close();
});

test("what is refused for good takes nothing along", async () => {
  const { client, clock, cluster, events } = await online();
  cluster.beforeSend = (request) =>
    request.content?.kind?.value === "2" ? cluster.refuse(ErrorCode.ERROR_CODE_PERMISSION_DENIED) : undefined;
  const all = Promise.allSettled(["1", "2", "3"].map((text) => client.send({ to: "bob", text })));
  await clock.advance(0);
  assert.deepEqual(
    (await all).map((result) => result.status),
    ["fulfilled", "rejected", "fulfilled"],
  );
  assert.deepEqual(texts(events), ["1", "3"]);
  assert.equal(sends(cluster).length, 3);
  client.close();
});

test("after a break all that is unanswered goes again, in order", async () => {
  const { client, clock, cluster, events, transport } = await online();
  let answers = 2;
  cluster.beforeSend = () => {
    answers -= 1;
    return answers < 0;
  };
  const all = Promise.all(["1", "2", "3", "4"].map((text) => client.send({ to: "bob", text })));
  await clock.advance(0);
  cluster.beforeSend = undefined;
  transport.last.cut();
  await clock.advance(1_000);
  assert.deepEqual(
    (await all).map((result) => result.seq),
    [1, 2, 3, 4],
  );
  assert.deepEqual(texts(events), ["1", "2", "3", "4"]);
  client.close();
});

test("a session that may send ten a second sends ten a second, in order", async () => {
  const { client, clock, cluster, events } = await online();
  let tokens = 10;
  let filledAt = clock.now();
  cluster.beforeSend = () => {
    tokens = Math.min(10, tokens + (clock.now() - filledAt) / 100);
    filledAt = clock.now();
    if (tokens < 1) return cluster.refuse(ErrorCode.ERROR_CODE_OVERLOADED, Math.ceil((1 - tokens) * 100));
    tokens -= 1;
    return undefined;
  };
  const all = Array.from({ length: 100 }, (_, i) => client.send({ to: "bob", text: String(i) }));
  const from = clock.now();
  let took = 0;
  void Promise.all(all).then(() => {
    took = clock.now() - from;
  });
  await clock.advance(30_000);
  assert.ok(took >= 9_000 && took < 12_000, `${took} ms`);
  assert.deepEqual(
    texts(events),
    Array.from({ length: 100 }, (_, i) => String(i)),
  );
  client.close();
});

test("conversations take turns: one message does not wait for eight long queues before it", async () => {
  const fix = await online({ outboxMax: 10_000, sendTimeoutMs: 600_000 });
  const line = { bytesPerSecond: 1_000_000, roundTripMs: 300, stallPercent: 0, stallMs: 0, tells: false };
  fix.transport.line = () => new SlowLine(fix.clock, line);
  fix.transport.last.cut();
  await fix.clock.advance(5_000);
  for (let user = 0; user < 8; user += 1) {
    for (let i = 0; i < 200; i += 1) fix.client.send({ to: `user${user}`, text: String(i) }).catch(() => {});
  }
  const from = fix.clock.now();
  let took = -1;
  void fix.client.send({ to: "urgent", text: "x" }).then(() => {
    took = fix.clock.now() - from;
  });
  await fix.clock.advance(60_000);
  assert.ok(took >= 300 && took <= 700, `${took} ms: the round trip before it, and its own`);
  for (let user = 0; user < 8; user += 1) {
    const log = fix.cluster.log("alice", `user${user}`).map((event) => Number(event.body?.value.content?.kind?.value));
    assert.deepEqual(
      log,
      Array.from({ length: 200 }, (_, i) => i),
    );
  }
  fix.client.close();
});
