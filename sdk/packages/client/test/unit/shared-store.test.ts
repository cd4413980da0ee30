// Tabs from a seed that come and go on one store, in the middle of everything: what any of them sent is stored once, in
// the order of its calls, and none skips what nobody has seen.
import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryStore, type Store } from "../../src/index.js";
import { disturb, numbers, pick } from "../support/disturb.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { FakeLocks } from "../support/fake-locks.js";
import { type Fixture, fixture, online } from "../support/fixture.js";

const SEEDS = 30;
const STEPS = 120;
const TABS_MAX = 3;
const PEERS = ["bob", "carol"] as const;
const OWNER = { appId: "demo", userId: "alice" };

interface Tab extends Fixture {
  readonly name: string;
  /** Conversation → the last seq that anybody had seen when it came. */
  readonly seenBefore: ReadonlyMap<string, number>;
  sent: number;
  end(): void;
}

/** As IndexedDB is: nothing is there at once. */
function slowly(inner: MemoryStore): Store {
  const later = async <T>(act: () => T): Promise<T> => {
    await new Promise((resolve) => setImmediate(resolve));
    return act();
  };
  return {
    keys: (prefix) => later(() => inner.keys(prefix)),
    read: (keys) => later(() => inner.read(keys)),
    write: (changes) => later(() => inner.write(changes)),
  };
}

class Browser {
  readonly cluster = new FakeCluster();
  readonly inner = new MemoryStore();
  readonly tabs: Tab[] = [];
  readonly all: Tab[] = [];
  readonly #seen = new Map<string, number>();
  readonly #locks: FakeLocks | undefined;

  constructor(locks: FakeLocks | undefined) {
    this.#locks = locks;
  }

  open(): void {
    const page = this.#locks?.page();
    const options = { store: slowly(this.inner), owner: OWNER, cacheBytesMax: 4_000 };
    const made = fixture({ ...options, ...(page === undefined ? {} : { locks: page.locks }) }, this.cluster);
    made.client.on("event", ({ conversationId, seq }) => {
      this.#seen.set(conversationId, Math.max(seq, this.#seen.get(conversationId) ?? 0));
    });
    const end = (): void => {
      for (const link of made.transport.links) {
        link.silent = true;
        link.forget();
      }
      page?.end();
    };
    const tab: Tab = { ...made, name: `tab${this.all.length}`, seenBefore: new Map(this.#seen), sent: 0, end };
    this.tabs.push(tab);
    this.all.push(tab);
    made.client.connect().catch(() => {});
  }

  /** All that was told is written. */
  async written(): Promise<void> {
    for (let round = 0; round < 4; round += 1) await this.pass(0);
  }

  /** Nobody closes anything. */
  kill(tab: Tab): void {
    this.tabs.splice(this.tabs.indexOf(tab), 1);
    tab.end();
  }

  async pass(ms: number): Promise<void> {
    for (const { clock } of this.tabs) await clock.advance(ms);
  }
}

test(`tabs that come and go on one store lose and double nothing (${SEEDS} seeds)`, async () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const random = numbers(seed);
    const browser = new Browser(seed % 2 === 0 ? new FakeLocks() : undefined);
    const { cluster } = browser;
    (await online({ store: browser.inner }, cluster)).client.close();
    const calm = disturb(cluster, random);
    for (let step = 0; step < STEPS; step += 1) {
      if (browser.tabs.length === 0) browser.open();
      const tab = pick(random, browser.tabs);
      const peer = pick(random, PEERS);
      const fate = random();
      if (fate < 0.35) cluster.say(peer, "alice", `p${step}`, `p${step}`);
      else if (fate < 0.65) {
        tab.sent += 1;
        const text = `${tab.name} ${tab.sent}`;
        tab.client.send({ to: peer, text, clientMessageId: text }).catch(() => {});
      } else if (fate < 0.7) void tab.client.timeline({ to: peer }).loadOlder();
      else if (fate < 0.76) tab.transport.links.at(-1)?.cut(1006);
      else if (fate < 0.86) {
        await browser.written();
        if (fate < 0.82 && browser.tabs.length < TABS_MAX) browser.open();
        else browser.kill(tab);
      }
      await browser.pass(Math.floor(random() * 100));
    }
    calm();
    await browser.written();
    for (const tab of [...browser.tabs]) browser.kill(tab);
    browser.open();
    await browser.pass(120_000);
    const stored = PEERS.flatMap((peer) =>
      cluster
        .log("alice", peer)
        .filter((event) => event.sender === "alice")
        .map((event) => ({ peer, id: String(event.body?.value.clientMessageId) })),
    );
    for (const tab of browser.all) {
      const own = stored.filter(({ id }) => id.startsWith(`${tab.name} `));
      assert.equal(own.length, tab.sent, `seed ${seed}, ${tab.name}: all that was sent is stored, once`);
      for (const peer of PEERS) {
        const numbersOf = own.filter((one) => one.peer === peer).map(({ id }) => Number(id.split(" ")[1]));
        assert.deepEqual(
          numbersOf,
          [...numbersOf].sort((a, b) => a - b),
          `seed ${seed}, ${tab.name}: order`,
        );
        const id = `d:5:alice:${peer}`;
        const seqs = tab.events.filter((event) => event.conversationId === id).map((event) => event.seq);
        const first = seqs[0] ?? 1;
        assert.deepEqual(
          seqs,
          seqs.map((_, index) => first + index),
          `seed ${seed}, ${tab.name}: once and in order`,
        );
        const seen = tab.seenBefore.get(id) ?? 0;
        if (seqs.length > 0) assert.equal(first, seen + 1, `seed ${seed}, ${tab.name}: begins where all others were`);
      }
    }
    const left = browser.inner.keys("").filter((key) => /\/o\//.test(key));
    assert.deepEqual(left, [], `seed ${seed}: nothing is left to be sent`);
    const positions = browser.inner.keys("").filter((key) => /\/p\//.test(key));
    assert.equal(positions.length, PEERS.length, `seed ${seed}: one position for each conversation`);
  }
});
