// Slow phones: whatever the line, what was missed comes, once and in order, in bounded memory.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClientOptions } from "../../src/index.js";
import type { FakeCluster } from "../support/fake-cluster.js";
import { type Fixture, online, texts } from "../support/fixture.js";
import { type LineOptions, SlowLine } from "../support/slow-line.js";

const TALKS = 5;
const EVENTS = 60;
/** A stall is three round trips long: a packet that was lost, and lost again. */
const PHONE: LineOptions = {
  bytesPerSecond: 20 * 1024,
  roundTripMs: 500,
  stallPercent: 5,
  stallMs: 1_500,
  tells: false,
};
const CRAWLING: LineOptions = { ...PHONE, bytesPerSecond: 3 * 1024 };

function sayMuch(cluster: FakeCluster): void {
  for (let talk = 0; talk < TALKS; talk += 1) {
    for (let i = 0; i < EVENTS; i += 1) cluster.say(`bob${talk}`, "alice", `${i} `.padEnd(4_000, "x"), `b${i}`);
  }
}

/** Logs in on a good line, goes away, misses 1.2 MB and a few short talks, and comes back on a slow line. */
async function comesBack(
  options: LineOptions,
  withinMs: number,
  changed: Partial<ClientOptions> = {},
): Promise<Fixture & { readonly heldMost: number }> {
  const fix = await online({ firstGateway: "first", ...changed });
  const { client, clock, cluster, transport } = fix;
  transport.last.cut();
  sayMuch(cluster);
  for (let i = 0; i < 20; i += 1) cluster.say(`user${i}`, "alice", "hi", `u${i}`);
  const before = transport.links.length;
  transport.line = () => new SlowLine(clock, options);
  // What came in and was not handed out yet, at most: that is what the client has in memory.
  let [heldMost, handedOut] = [0, 0];
  client.on("event", (event) => {
    const cameIn = transport.links.slice(before).reduce((sum, link) => sum + link.received, 0);
    heldMost = Math.max(heldMost, cameIn - handedOut);
    if (event.type === "message" && event.content.type === "text") handedOut += event.content.text.length;
  });
  let synced = false;
  client.on("synced", () => {
    synced = true;
  });
  for (let waited = 0; waited < withinMs && !synced; waited += 1_000) await clock.advance(1_000);
  assert.ok(synced, `level with the cluster within ${withinMs / 1_000} s; has ${fix.events.length} events`);
  for (let talk = 0; talk < TALKS; talk += 1) {
    const id = client.conversationIdWith(`bob${talk}`);
    const seqs = fix.events.filter((event) => event.conversationId === id).map((event) => event.seq);
    assert.deepEqual(
      seqs,
      Array.from({ length: EVENTS }, (_, i) => i + 1),
    );
  }
  assert.equal(fix.events.length, TALKS * EVENTS + 20);
  return { ...fix, heldMost };
}

test("on 20 KiB/s with 500 ms round trip and 5 % stalls nobody is cut off, and little is under way at a time", async () => {
  // 1.2 MB take 60 s, stalls 90 s.
  const { client, transport, heldMost } = await comesBack(PHONE, 250_000);
  assert.equal(transport.links.length, 2, "one connection before, one after");
  const most = transport.last.line?.waitingMost ?? 0;
  assert.ok(most < 192 * 1024, `at most ${most} bytes waited at the gateway`);
  // Two pages, and what frames have beside the texts.
  assert.ok(heldMost > 0 && heldMost < 192 * 1024, `at most ${heldMost} of 1,200,000 bytes were held by the client`);
  client.close();
});

test("what a phone is told meanwhile comes in between, and what it sends goes out", async () => {
  const fix = await online({ firstGateway: "first" });
  const { client, clock, cluster, transport, events } = fix;
  transport.last.cut();
  sayMuch(cluster);
  transport.line = () => new SlowLine(clock, PHONE);
  await clock.advance(15_000);
  assert.ok(events.length > 5 && events.length < TALKS * EVENTS, `under way: ${events.length}`);
  cluster.say("carol", "alice", "are you there?");
  const sent = client.send({ to: "carol", text: "yes" });
  await clock.advance(15_000);
  assert.equal((await sent).seq, 2);
  const carols = events.filter((event) => event.conversationId.includes("carol"));
  assert.deepEqual(texts(carols), ["are you there?", "yes"]);
  client.close();
});

test("a line of 3 KiB/s gets pages that it can carry, whether its transport tells what comes in or not", async () => {
  for (const tells of [true, false]) {
    const { client, transport } = await comesBack({ ...CRAWLING, tells }, 900_000);
    // A page that is written for more than 20 s ends a connection: one, until pages are smaller.
    assert.ok(transport.links.length <= 5, `${transport.links.length} connections`);
    client.close();
  }
});

test("a busy line is not called dead, however often it is pinged", async () => {
  // A page of 64 KiB takes 16 s, more than a ping may.
  for (const tells of [true, false]) {
    const line = { ...PHONE, bytesPerSecond: 4 * 1024, stallPercent: 0, tells };
    const { client, transport } = await comesBack(line, 600_000, { pingIntervalMs: 1_000 });
    assert.equal(transport.links.length, 2, `a transport that ${tells ? "tells" : "does not tell"}`);
    client.close();
  }
});

test("a late answer is taken, and not asked for again", async () => {
  const { client, clock, cluster, events, transport } = await online();
  transport.last.cut();
  cluster.say("bob", "alice", "missed");
  const handle = cluster.handle.bind(cluster);
  let held: (() => void) | undefined;
  cluster.handle = (session, body) => {
    if (body.$case !== "history") return handle(session, body);
    held = () => session.push(handle(session, body) as never, 4);
    return undefined;
  };
  await clock.advance(1_000 + 50_000);
  const asked = () => cluster.requests.filter((request) => request.$case === "history").length;
  assert.equal(asked(), 1);
  held?.();
  await clock.advance(0);
  assert.deepEqual(texts(events), ["missed"]);
  await clock.advance(60_000);
  assert.equal(asked(), 1);
  client.close();
});

test("memory for what is held back is bounded over all conversations", async () => {
  const { client, clock, cluster, events, transport } = await online({ heldBytesMax: 100_000 });
  // Histories do not come; pushes with gaps do.
  const handle = cluster.handle.bind(cluster);
  cluster.handle = (session, body) => (body.$case === "history" ? undefined : handle(session, body));
  cluster.pushes = (event) => event.seq > 1;
  for (let i = 0; i < 40; i += 1) {
    for (let user = 0; user < 10; user += 1) cluster.say(`user${user}`, "alice", "x".repeat(5_000), `${user}-${i}`);
  }
  await clock.advance(1_000);
  assert.equal(events.length, 0);
  cluster.handle = handle;
  cluster.requests.length = 0;
  transport.last.cut();
  await clock.advance(60_000);
  assert.equal(events.length, 400);
  const fetched = cluster.requests.filter((request) => request.$case === "history").length;
  // 2 MB came as pushes, of which 100 kB may be kept: the rest is fetched again, 64 KiB at a time.
  assert.ok(fetched > 30, `${fetched} pages`);
  client.close();
});

test("pages of history that end early are joined, in both directions", async () => {
  const { client, clock, cluster } = await online();
  for (let i = 1; i <= 90; i += 1) cluster.say("bob", "alice", `${i} `.padEnd(4_000, "x"), `b${i}`);
  const read = async (options: { startSeq?: number; direction?: "forward"; limit?: number }) => {
    const [page] = await Promise.all([client.history({ to: "bob", ...options }), clock.advance(0)]);
    return { first: page.events[0]?.seq, last: page.events.at(-1)?.seq, count: page.events.length, more: page.more };
  };
  assert.deepEqual(await read({ limit: 60 }), { first: 31, last: 90, count: 60, more: true });
  assert.deepEqual(await read({ startSeq: 30, limit: 60 }), { first: 1, last: 30, count: 30, more: false });
  assert.deepEqual(await read({ direction: "forward", limit: 70 }), { first: 1, last: 70, count: 70, more: true });
  assert.deepEqual(await read({ startSeq: 71, direction: "forward" }), { first: 71, last: 90, count: 20, more: false });
  client.close();
});

test("a resync waits for a random part of the delay that comes with it", async () => {
  const { client, clock, cluster } = await online();
  const lists = () => cluster.requests.filter((request) => request.$case === "conversations").length;
  assert.equal(lists(), 1);
  cluster.pushAll({ $case: "resync", value: { withinMs: 2_000 } });
  await clock.advance(999);
  assert.equal(lists(), 1);
  await clock.advance(1);
  assert.equal(lists(), 2);
  client.close();
});
