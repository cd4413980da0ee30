// What must hold between real sockets: run against a real cluster, and against the fake one so that the story itself
// is known to be right.
import assert from "node:assert/strict";
import {
  type ConversationEvent,
  ConflictError,
  MemoryStore,
  ParlanceClient,
  PermissionError,
  type ReadChange,
  TokenError,
} from "../../src/index.js";
import { nodeTransport } from "../../src/node.js";
import { texts } from "./fixture.js";
import { TcpProxy } from "./proxy.js";
import { until } from "./wait.js";

/** Where the story takes place. */
export interface Setting {
  readonly gateways: readonly string[];
  token(user: string): Promise<string> | string;
}

/** A client that keeps what it was told. */
export interface Person {
  readonly name: string;
  readonly client: ParlanceClient;
  readonly events: ConversationEvent[];
  readonly reads: ReadChange[];
}

interface PersonOptions {
  readonly gateways?: readonly string[];
  readonly store?: MemoryStore;
  /** Gets each state of the connection. */
  readonly states?: string[];
}

/** Logged in and level with the cluster. */
export async function arrive(setting: Setting, name: string, options: PersonOptions = {}): Promise<Person> {
  const client = new ParlanceClient({
    gateways: options.gateways ?? setting.gateways,
    getToken: () => setting.token(name),
    transport: nodeTransport(),
    backoff: { baseMs: 100, maxMs: 1_000 },
    ...(options.store === undefined ? {} : { store: options.store }),
  });
  const person: Person = { name, client, events: [], reads: [] };
  client.on("state", ({ state }) => options.states?.push(state));
  client.on("event", (event) => person.events.push(event));
  client.on("read", (change) => person.reads.push(change));
  const synced = new Promise((resolve) => client.on("synced", resolve));
  await client.connect();
  await synced;
  return person;
}

/** Waits until a person has seen so many events, checks that no more come, and that each came once and in order. */
async function sees(person: Person, count: number): Promise<string[]> {
  const seen = person.events;
  await until(
    () => seen.length >= count,
    () => texts(seen),
  );
  // Its answer comes behind every push that was on its way.
  const [first] = seen;
  if (first !== undefined) await person.client.history({ conversationId: first.conversationId, limit: 1 });
  assert.equal(seen.length, count, `${person.name} saw ${texts(seen).join(", ")}`);
  const next = new Map<string, number>();
  for (const { conversationId, seq } of seen) {
    const expected = next.get(conversationId);
    if (expected !== undefined) assert.equal(seq, expected, `${conversationId} out of order`);
    next.set(conversationId, seq + 1);
  }
  return texts(seen);
}

let count = 0;
/** User ids that no other test has used. */
function names(): [string, string] {
  count += 1;
  const stamp = `${Date.now().toString(36)}-${count}`;
  return [`ann-${stamp}`, `ben-${stamp}`];
}

async function pair(setting: Setting): Promise<[Person, Person]> {
  const [one, two] = names();
  const gateways = [...setting.gateways];
  return Promise.all([
    arrive(setting, one, { gateways: gateways.slice(0, 1) }),
    arrive(setting, two, { gateways: gateways.slice(-1) }),
  ]);
}

export async function chatBothWays(setting: Setting): Promise<void> {
  const [ann, ben] = await pair(setting);
  try {
    const first = await ann.client.send({ to: ben.name, text: "hello 用户 🙂" });
    assert.deepEqual([first.seq, first.duplicate], [1, false]);
    assert.deepEqual(await sees(ben, 1), ["hello 用户 🙂"]);
    const second = await ben.client.send({ conversationId: first.conversationId, text: "hi" });
    assert.equal(second.seq, 2);
    assert.deepEqual(await sees(ann, 2), ["hello 用户 🙂", "hi"]);
    const many = Array.from({ length: 100 }, (_, i) => `m${i}`);
    const results = await Promise.all(many.map((text) => ann.client.send({ to: ben.name, text })));
    assert.deepEqual(
      results.map((r) => r.seq),
      many.map((_, i) => i + 3),
    );
    assert.deepEqual((await sees(ben, 102)).slice(2), many);
    await sees(ann, 102);
  } finally {
    ann.client.close();
    ben.client.close();
  }
}

export async function historyBothDirections(setting: Setting): Promise<void> {
  const [ann, ben] = await pair(setting);
  try {
    for (let i = 1; i <= 25; i += 1) await ann.client.send({ to: ben.name, text: `h${i}` });
    const newest = await ben.client.history({ to: ann.name, limit: 10 });
    assert.deepEqual(
      texts(newest.events),
      Array.from({ length: 10 }, (_, i) => `h${i + 16}`),
    );
    assert.deepEqual([newest.headSeq, newest.more], [25, true]);
    const older = await ben.client.history({ to: ann.name, startSeq: 15, limit: 50 });
    assert.deepEqual([older.events.length, older.more], [15, false]);
    const forward = await ben.client.history({ to: ann.name, startSeq: 20, direction: "forward", limit: 3 });
    assert.deepEqual(
      forward.events.map((e) => e.seq),
      [20, 21, 22],
    );
    assert.equal(forward.more, true);
    assert.equal(forward.conversationId, ben.client.conversationIdWith(ann.name));
  } finally {
    ann.client.close();
    ben.client.close();
  }
}

export async function unreadAndMarkRead(setting: Setting): Promise<void> {
  const [ann, ben] = await pair(setting);
  try {
    for (let i = 0; i < 5; i += 1) await ann.client.send({ to: ben.name, text: `u${i}` });
    await sees(ben, 5);
    const id = ben.client.conversationIdWith(ann.name);
    const shown = () => ben.client.conversation(id);
    assert.equal(shown()?.unreadCount, 5);
    const listed = async () =>
      (await ben.client.listConversations()).conversations.find((c) => c.conversationId === id);
    assert.equal((await listed())?.unreadCount, 5);
    const part = await ben.client.markRead({ to: ann.name, seq: 3 });
    assert.deepEqual([part.readSeq, part.unreadCount], [3, 2]);
    await until(() => shown()?.unreadCount === 2, shown);
    await until(
      () => ann.reads.some((r) => r.readSeq === 3 && r.userId === ben.name),
      () => ann.reads,
    );
    const all = await ben.client.markRead({ conversationId: id, seq: 1_000 });
    assert.deepEqual([all.readSeq, all.unreadCount], [5, 0]);
    await until(
      () => ann.client.conversation(id)?.peerReadSeq === 5,
      () => ann.client.conversation(id),
    );
    const after = await listed();
    assert.deepEqual([after?.readSeq, after?.unreadCount, after?.headSeq, after?.peer], [5, 0, 5, ann.name]);
    await ann.client.send({ to: ben.name, text: "again" });
    await until(() => shown()?.unreadCount === 1, shown);
  } finally {
    ann.client.close();
    ben.client.close();
  }
}

export async function reconnectAfterCut(setting: Setting): Promise<void> {
  const [one, two] = names();
  const proxy = await TcpProxy.start(setting.gateways[0] ?? "");
  const ben = await arrive(setting, two, { gateways: [proxy.url] });
  const ann = await arrive(setting, one, { gateways: setting.gateways.slice(-1) });
  try {
    await ann.client.send({ to: two, text: "before" });
    await sees(ben, 1);
    proxy.down = true;
    proxy.cut();
    await until(
      () => ben.client.state === "waiting",
      () => ben.client.state,
    );
    await ann.client.send({ to: two, text: "while away" });
    const sent = ["x", "y", "z"].map((text) => ben.client.send({ to: one, text }));
    proxy.down = false;
    await Promise.all(sent);
    assert.deepEqual(await sees(ben, 5), ["before", "while away", "x", "y", "z"]);
    await sees(ann, 5);
    // Breaks in the middle of a stream of sends lose, double and reorder nothing.
    const stream: Promise<unknown>[] = [];
    for (let i = 0; i < 200; i += 1) {
      stream.push(ben.client.send({ to: one, text: `s${i}` }));
      if (i % 50 === 25) proxy.cut();
      // Some are always under way, whatever the breaks do to the pace.
      if (i % 10 === 9) await stream[i - 9];
    }
    await Promise.all(stream);
    const expected = Array.from({ length: 200 }, (_, i) => `s${i}`);
    assert.deepEqual((await sees(ann, 205)).slice(5), expected);
    assert.deepEqual((await sees(ben, 205)).slice(5), expected);
  } finally {
    ann.client.close();
    ben.client.close();
    await proxy.stop();
  }
}

export async function sameIdAgain(setting: Setting): Promise<void> {
  const [ann, ben] = await pair(setting);
  // The retry comes through another gateway than the first try.
  const elsewhere = await arrive(setting, ann.name, { gateways: setting.gateways.slice(-1) });
  try {
    const clientMessageId = ann.client.newMessageId();
    const first = await ann.client.send({ to: ben.name, text: "once", clientMessageId });
    const again = await elsewhere.client.send({ to: ben.name, text: "once", clientMessageId });
    assert.deepEqual([again.seq, again.timeMs, again.duplicate], [first.seq, first.timeMs, true]);
    await assert.rejects(elsewhere.client.send({ to: ben.name, text: "other", clientMessageId }), ConflictError);
    assert.deepEqual(await sees(ben, 1), ["once"]);
    assert.deepEqual(await sees(ann, 1), ["once"]);
    assert.deepEqual(await sees(elsewhere, 1), ["once"]);
  } finally {
    for (const person of [ann, ben, elsewhere]) person.client.close();
  }
}

export async function missedWhileOffline(setting: Setting): Promise<void> {
  const [one, two] = names();
  const store = new MemoryStore();
  const ann = await arrive(setting, one);
  const before = await arrive(setting, two, { store });
  await ann.client.send({ to: two, text: "seen" });
  await sees(before, 1);
  before.client.close();
  await ann.client.send({ to: two, text: "missed" });
  const after = await arrive(setting, two, { store });
  try {
    assert.deepEqual(await sees(after, 1), ["missed"]);
  } finally {
    ann.client.close();
    after.client.close();
  }
}

/** 20 KiB/s, 500 ms round trip, and 5 % of the pieces stand still for a while. */
const PHONE = { bytesPerSecond: 20 * 1024, roundTripMs: 500, stallPercent: 5, stallMs: 200 };

/** Somebody who missed so many messages of 2 KiB comes back on a slow line. */
export async function slowPhone(setting: Setting, messages: number): Promise<void> {
  const [one, two] = names();
  const store = new MemoryStore();
  const ann = await arrive(setting, one);
  (await arrive(setting, two, { store })).client.close();
  const missed = Array.from({ length: messages }, (_, i) => `${i} `.padEnd(2_048, "x"));
  await Promise.all(missed.map((text) => ann.client.send({ to: two, text })));
  const proxy = await TcpProxy.start(setting.gateways[0] ?? "", PHONE);
  const states: string[] = [];
  const ben = await arrive(setting, two, { store, gateways: [proxy.url], states });
  try {
    assert.deepEqual(await sees(ben, messages), missed);
    assert.equal((await ben.client.send({ to: one, text: "all there" })).seq, messages + 1);
    assert.deepEqual(states, ["connecting", "online"], "it was never cut off");
  } finally {
    ann.client.close();
    ben.client.close();
    await proxy.stop();
  }
}

export async function refusals(setting: Setting): Promise<void> {
  const [ann, ben] = await pair(setting);
  const [stranger] = names();
  const eve = await arrive(setting, stranger);
  const { conversationId } = await ann.client.send({ to: ben.name, text: "private" });
  const { gateways } = setting;
  const nobody = new ParlanceClient({ gateways, getToken: () => "!garbled", transport: nodeTransport() });
  try {
    await assert.rejects(eve.client.history({ conversationId }), PermissionError);
    await assert.rejects(eve.client.send({ conversationId, text: "me too" }), PermissionError);
    await assert.rejects(ann.client.send({ to: ann.name, text: "me" }), { code: "invalid_argument" });
    await assert.rejects(nobody.connect(), TokenError);
    assert.equal((await ann.client.send({ to: ben.name, text: "still here" })).seq, 2);
  } finally {
    for (const client of [ann.client, ben.client, eve.client, nobody]) client.close();
  }
}
