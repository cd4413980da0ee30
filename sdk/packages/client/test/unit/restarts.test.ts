// Restarts from a seed, in the middle of everything: over all runs each event was handed out once and in order, and
// what was sent is stored once, in the order of the calls.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConversationEvent, MemoryStore } from "../../src/index.js";
import { disturb, numbers, pick } from "../support/disturb.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { fixture, online } from "../support/fixture.js";

const SEEDS = 30;
const RUNS = 6;
const STEPS = 25;
const PEERS = ["bob", "carol"] as const;
const OWNER = { appId: "demo", userId: "alice" };

test(`whenever the process ends, the next one goes on where it was (${SEEDS} seeds)`, async () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const random = numbers(seed);
    const cluster = new FakeCluster();
    const store = new MemoryStore();
    // What is older than the first log-in is history: that one is over.
    (await online({ store }, cluster)).client.close();
    const calm = disturb(cluster, random);
    const seen: ConversationEvent[] = [];
    let sent = 0;
    for (let run = 0; run < RUNS; run += 1) {
      const last = run === RUNS - 1;
      if (last) calm();
      // Small, so that kept events go while they are read.
      const { client, clock, events, transport } = fixture({ store, owner: OWNER, cacheBytesMax: 4_000 }, cluster);
      client.connect().catch(() => {});
      for (let step = 0; step < STEPS; step += 1) {
        const peer = pick(random, PEERS);
        const fate = random();
        if (fate < 0.4) cluster.say(peer, "alice", `p${run}-${step}`, `p${run}-${step}`);
        else if (fate < 0.7) {
          sent += 1;
          client.send({ to: peer, text: String(sent), clientMessageId: `a${sent}` }).catch(() => {});
        } else if (fate < 0.8) void client.timeline({ to: peer }).loadOlder();
        else if (fate < 0.85) transport.links.at(-1)?.cut(1006);
        await clock.advance(Math.floor(random() * 100));
      }
      if (last) await clock.advance(120_000);
      seen.push(...events);
      // The process ends here: nobody closes anything.
      for (const link of transport.links) {
        link.silent = true;
        link.forget();
      }
    }
    for (const peer of PEERS) {
      const what = `seed ${seed}, ${peer}`;
      const log = cluster.log("alice", peer);
      const seqs = seen.filter((event) => event.conversationId === `d:5:alice:${peer}`).map((event) => event.seq);
      assert.deepEqual(
        seqs,
        log.map((event) => event.seq),
        what,
      );
      const own = log
        .filter((event) => event.sender === "alice")
        .map((event) => event.body?.value.content?.kind?.value);
      const numbersOf = own.map(Number);
      assert.deepEqual(
        numbersOf,
        [...new Set(numbersOf)].sort((a, b) => a - b),
        `${what}: own messages`,
      );
    }
    const stored = PEERS.reduce(
      (sum, peer) => sum + cluster.log("alice", peer).filter((e) => e.sender === "alice").length,
      0,
    );
    assert.equal(stored, sent, `seed ${seed}: all that was sent is stored`);
    assert.deepEqual(
      store.keys("").filter((key) => key.includes("/o/")),
      [],
      `seed ${seed}: nothing is left to be sent`,
    );
  }
});
