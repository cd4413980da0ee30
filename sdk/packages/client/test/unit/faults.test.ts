// Random faults from a seed, then none: whatever happened, every event came once and in order, and counts are right.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryStore } from "../../src/index.js";
import { disturb, numbers, pick } from "../support/disturb.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { type Fixture, online } from "../support/fixture.js";

const SEEDS = 40;
const STEPS = 120;
const PEERS = ["bob", "carol", "用户"] as const;

interface Sent {
  readonly peer: string;
  readonly text: string;
  readonly stored: Promise<boolean>;
}

async function trouble(fix: Fixture, random: () => number, sent: Sent[]): Promise<void> {
  const { client, clock, cluster, transport } = fix;
  for (let step = 0; step < STEPS; step += 1) {
    const peer = pick(random, PEERS);
    const text = String(step);
    const fate = random();
    if (fate < 0.4) cluster.say(peer, "alice", text, `p${step}`);
    else if (fate < 0.7) {
      const stored = client.send({ to: peer, text }).then(
        () => true,
        () => false,
      );
      sent.push({ peer, text, stored });
    } else if (fate < 0.8) {
      const seq = client.conversation(client.conversationIdWith(peer))?.headSeq ?? 0;
      client.markRead({ to: peer, seq: Math.ceil(seq * random()) }).catch(() => {});
    } else if (fate < 0.84) transport.last.cut(pick(random, [1001, 1006, 4100, 4101]));
    else if (fate < 0.86) transport.last.silent = true;
    else if (fate < 0.88) cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
    else if (fate < 0.9) cluster.pushAll({ $case: "reconnect", value: { withinMs: 300 } });
    await clock.advance(Math.floor(random() * 200));
  }
}

async function check(fix: Fixture, sent: readonly Sent[], seed: number): Promise<void> {
  const { client, cluster, events } = fix;
  for (const peer of PEERS) {
    const log = cluster.log("alice", peer);
    const id = client.conversationIdWith(peer);
    const seen = events.filter((event) => event.conversationId === id).map((event) => event.seq);
    assert.deepEqual(
      seen,
      log.map((event) => event.seq),
      `seed ${seed}: ${peer}`,
    );
    const texts = log
      .filter((event) => event.sender === "alice")
      .map((event) => Number(event.body?.value.content?.kind?.value));
    assert.deepEqual(texts, [...new Set(texts)], `seed ${seed}: stored twice`);
    const acknowledged: number[] = [];
    for (const item of sent) if (item.peer === peer && (await item.stored)) acknowledged.push(Number(item.text));
    assert.deepEqual(
      texts.filter((n) => acknowledged.includes(n)),
      acknowledged,
      `seed ${seed}: order of own messages`,
    );
    const shown = client.conversation(id);
    const unread = log.filter((event) => event.sender === peer && event.seq > (shown?.readSeq ?? 0)).length;
    assert.equal(shown?.unreadCount ?? 0, unread, `seed ${seed}: unread of ${peer}`);
    assert.equal(shown?.headSeq ?? 0, log.length, `seed ${seed}: head of ${peer}`);
  }
}

test(`whatever happens, events come once and in order, and counts are right (${SEEDS} seeds)`, async () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const random = numbers(seed);
    const cluster = new FakeCluster();
    const fix = await online({ store: new MemoryStore(), heldEventsMax: 3 }, cluster);
    const calm = disturb(cluster, random);
    const sent: Sent[] = [];
    await trouble(fix, random, sent);
    calm();
    await fix.clock.advance(120_000);
    fix.transport.last.cut();
    await fix.clock.advance(60_000);
    assert.equal(fix.client.state, "online", `seed ${seed}`);
    await check(fix, sent, seed);
    fix.client.close();
    assert.equal(fix.clock.pending, 0, `seed ${seed}: timers left`);
  }
});
