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
  /** It came while others wrote: what they had not written it sees, too. */
  readonly early: boolean;
  /** Conversation → the last seq that anybody had seen when it came. */
  readonly seenBefore: ReadonlyMap<string, number>;
  /** Conversation → the last seq that was told by the rows that it found. */
  found: ReadonlyMap<string, number>;
  sent: number;
  end(): void;
}

function turned(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** As IndexedDB is: nothing is there at once. */
function slowly(inner: MemoryStore, looks: () => void): Store {
  const later = async <T>(act: () => T): Promise<T> => {
    await turned();
    return act();
  };
  return {
    keys: (prefix) =>
      later(() => {
        looks();
        return inner.keys(prefix);
      }),
    read: (keys) => later(turned).then(() => inner.read(keys)),
    write: (changes) => later(() => inner.write(changes)),
  };
}

function positions(store: MemoryStore): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const key of store.keys("")) {
    const [, , , kind, conversation = "", seq] = key.split("/");
    const id = decodeURIComponent(conversation);
    if (kind === "p") found.set(id, Math.max(Number(seq), found.get(id) ?? 0));
  }
  return found;
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

  open(early = false): Tab {
    const page = this.#locks?.page();
    let looked = false;
    const looks = (): void => {
      if (!looked) tab.found = positions(this.inner);
      looked = true;
    };
    const options = { store: slowly(this.inner, looks), owner: OWNER, cacheBytesMax: 4_000 };
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
    const tab: Tab = {
      ...made,
      name: `tab${this.all.length}`,
      early,
      seenBefore: new Map(this.#seen),
      found: new Map(),
      sent: 0,
      end,
    };
    this.tabs.push(tab);
    this.all.push(tab);
    made.client.connect().catch(() => {});
    return tab;
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
      else if (fate < 0.8) {
        // All others list and write, and the new one reads what it can.
        cluster.say(peer, "alice", `p${step}`, `p${step}`);
        cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
        for (let turn = Math.floor(random() * 8); turn > 0; turn -= 1) await turned();
        if (browser.tabs.length < TABS_MAX) browser.open(true);
      } else if (fate < 0.9) {
        await browser.written();
        if (fate < 0.86 && browser.tabs.length < TABS_MAX) browser.open();
        else browser.kill(tab);
      }
      await browser.pass(Math.floor(random() * 100));
    }
    calm();
    await browser.written();
    for (const tab of browser.tabs.slice(0, -1)) browser.kill(tab);
    browser.open(true);
    // Pushes were dropped.
    cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
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
        const found = tab.found.get(id) ?? 0;
        const begin = tab.early ? found : seen;
        if (seqs.length > 0) assert.equal(first, begin + 1, `seed ${seed}, ${tab.name}: begins where all others were`);
        if (!browser.tabs.includes(tab)) continue;
        const head = cluster.log("alice", peer).at(-1)?.seq ?? 0;
        assert.ok((seqs.at(-1) ?? found) === head, `seed ${seed}, ${tab.name}: nothing is missing at the end`);
      }
    }
    const left = browser.inner.keys("").filter((key) => /\/o\//.test(key));
    assert.deepEqual(left, [], `seed ${seed}: nothing is left to be sent`);
    const places = browser.inner.keys("").filter((key) => /\/p\//.test(key));
    assert.equal(places.length, PEERS.length, `seed ${seed}: one position for each conversation`);
  }
});

test("a tab that opens at any moment while another one lists and writes misses nothing", async () => {
  const browser = new Browser(undefined);
  const { cluster } = browser;
  browser.open();
  await browser.written();
  cluster.pushes = () => false;
  for (let moment = 0; moment < 40; moment += 1) {
    cluster.say("bob", "alice", `m${moment}`);
    cluster.pushAll({ $case: "resync", value: { withinMs: 0 } });
    for (let turn = 0; turn < moment; turn += 1) await turned();
    const tab = browser.open(true);
    await browser.written();
    const told = tab.events.at(-1)?.seq ?? tab.found.get("d:5:alice:bob");
    assert.equal(told, moment + 1, `after ${moment} turns`);
    browser.kill(tab);
  }
});
