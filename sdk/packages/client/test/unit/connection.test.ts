import assert from "node:assert/strict";
import { test } from "node:test";
import { stopwatch } from "../../src/clock.js";
import { Pace } from "../../src/sync/pace.js";
import { FakeClock } from "../support/fake-time.js";
import {
  CancelledError,
  ClosedError,
  ConnectionError,
  ParlanceClient,
  ProtocolError,
  TimedOutError,
} from "../../src/index.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { fixture, GATEWAYS, online, texts } from "../support/fixture.js";

test("a lost connection is made again at the next address, after a jittered wait", async () => {
  const { client, clock, transport, states } = await online();
  const first = transport.last.url;
  transport.last.cut();
  assert.equal(client.state, "waiting");
  assert.equal(states.at(-1)?.retryInMs, 250);
  await clock.advance(249);
  assert.equal(client.state, "waiting");
  await clock.advance(1);
  assert.equal(client.state, "online");
  assert.notEqual(transport.last.url, first);
  client.close();
});

test("waits double up to the limit while nothing answers, and start anew after a lasting connection", async () => {
  const { client, clock, transport, states } = fixture({ backoff: { maxMs: 4_000 } });
  for (const url of GATEWAYS) transport.down.add(url);
  void client.connect();
  await clock.advance(20_000);
  const waits = states.filter((s) => s.state === "waiting").map((s) => s.retryInMs);
  assert.deepEqual(waits.slice(0, 6), [250, 500, 1_000, 2_000, 2_000, 2_000]);
  transport.down.clear();
  await clock.advance(2_000);
  assert.equal(client.state, "online");
  await clock.advance(10_000);
  transport.last.cut();
  assert.equal(states.at(-1)?.retryInMs, 250);
  client.close();
});

test("reconnectNow does not wait", async () => {
  const { client, clock, transport } = await online();
  transport.last.cut();
  client.reconnectNow();
  await clock.advance(0);
  assert.equal(client.state, "online");
  client.close();
});

test("close codes are obeyed by their range", async () => {
  const cases: [number, "closed" | "waiting" | "online"][] = [
    [1000, "waiting"],
    [1001, "online"],
    [1006, "waiting"],
    [1009, "closed"],
    [4000, "closed"],
    [4004, "closed"],
    [4005, "closed"],
    [4042, "closed"],
    [4100, "waiting"],
    [4101, "waiting"],
    [4102, "waiting"],
    [4103, "waiting"],
    [4104, "waiting"],
    [4150, "waiting"],
  ];
  for (const [code, state] of cases) {
    const { client, clock, transport } = await online();
    transport.last.cut(code);
    await clock.advance(0);
    assert.equal(client.state, state, `close code ${code}`);
    client.close();
  }
});

test("a code for good that is newer than this library ends it with the gateway's words", async () => {
  const { client, clock, transport, states } = await online();
  transport.last.cut(4042);
  await clock.advance(60_000);
  assert.ok(states.at(-1)?.error instanceof ProtocolError);
  assert.match(states.at(-1)?.error?.message ?? "", /closed with 4042/);
  assert.equal(transport.links.length, 1);
  client.close();
});

test("a planned move goes to the next address within the time given, and does not loop", async () => {
  const { client, clock, transport, cluster } = await online();
  const first = transport.last.url;
  cluster.pushAll({ $case: "reconnect", value: { withinMs: 3_000 } });
  await clock.advance(1_499);
  assert.equal(transport.links.length, 1);
  await clock.advance(1);
  assert.equal(client.state, "online");
  assert.notEqual(transport.last.url, first);
  transport.last.cut(1001);
  await clock.advance(0);
  assert.equal(client.state, "online");
  transport.last.cut(1001);
  await clock.advance(0);
  assert.equal(client.state, "waiting", "gateways that keep sending us on are not hammered");
  client.close();
});

test("a connection that is dead without a word is found by pings", async () => {
  const { client, clock, transport } = await online();
  transport.last.silent = true;
  await clock.advance(20_000 + 10_000);
  assert.equal(client.state, "waiting");
  await clock.advance(1_000);
  assert.equal(client.state, "online");
  client.close();
});

test("pings keep a quiet connection", async () => {
  const { client, clock, transport, cluster } = await online();
  await clock.advance(300_000);
  assert.equal(transport.links.length, 1);
  assert.equal(cluster.requests.filter((r) => r.$case === "ping").length, 15);
  client.close();
});

test("a gateway that accepts but never answers is left", async () => {
  const { client, clock, transport } = fixture();
  void client.connect();
  while (transport.links.length === 0) await Promise.resolve();
  transport.last.silent = true;
  await clock.advance(10_000);
  assert.equal(client.state, "waiting");
  await clock.advance(1_000);
  assert.equal(client.state, "online");
  client.close();
});

test("a network that comes back while an attempt hangs is not waited for behind it", async () => {
  const { client, clock, transport, states } = fixture();
  for (const url of ["ws://one/ws", "ws://two/ws"]) transport.down.add(url);
  client.connect().catch(() => {});
  // The waits are long by now.
  await clock.advance(120_000);
  transport.down.clear();
  while (client.state !== "connecting") client.reconnectNow();
  while (transport.links.length === 0) await Promise.resolve();
  transport.last.silent = true;
  client.reconnectNow();
  await clock.advance(10_000);
  await clock.advance(0);
  assert.equal(client.state, "online");
  assert.equal(states.at(-3)?.retryInMs, 0);
  client.close();
});

test("connect ends at its time-out with the last failure, and at its signal; the client goes on trying", async () => {
  const { client, clock, transport } = fixture();
  for (const url of GATEWAYS) transport.down.add(url);
  const late = assert.rejects(client.connect({ timeoutMs: 3_000 }), (error) => {
    assert.ok(error instanceof TimedOutError && error.cause instanceof ConnectionError);
    return true;
  });
  const stop = new AbortController();
  const cancelled = assert.rejects(client.connect({ signal: stop.signal }), CancelledError);
  stop.abort();
  await cancelled;
  await clock.advance(3_000);
  await late;
  transport.down.clear();
  await clock.advance(20_000);
  assert.equal(client.state, "online");
  client.close();
  assert.equal(clock.pending, 0);
});

test("a closed client can be opened again, at once too, and has missed nothing", async () => {
  const { client, clock, cluster, events } = fixture();
  // As a component that is mounted, unmounted and mounted again.
  const first = assert.rejects(client.connect(), ClosedError);
  client.close();
  const second = client.connect();
  await Promise.all([first, clock.advance(0)]);
  assert.equal((await second).userId, "alice");
  cluster.say("bob", "alice", "one");
  await clock.advance(0);
  const unanswered = assert.rejects(client.history({ to: "bob" }), ClosedError);
  client.close();
  await assert.rejects(client.send({ to: "bob", text: "closed" }), ClosedError);
  cluster.say("bob", "alice", "two");
  const third = client.connect();
  const sent = client.send({ to: "bob", text: "three" });
  await Promise.all([unanswered, clock.advance(0)]);
  await third;
  assert.equal((await sent).seq, 3);
  assert.deepEqual(texts(events), ["one", "two", "three"]);
  client.close();
  assert.equal(clock.pending, 0);
  assert.equal(cluster.sessions.size, 0);
});

test("bytes that are not a frame end the connection, not the client", async () => {
  const { client, clock, transport, errors } = await online();
  transport.last.deliver(Uint8Array.of(255, 255, 255));
  await clock.advance(0);
  assert.ok(errors[0] instanceof ProtocolError);
  await clock.advance(1_000);
  assert.equal(client.state, "online");
  client.close();
});

test("close rejects what waits and leaves no timer", async () => {
  const { client, clock, cluster } = await online();
  cluster.beforeSend = () => true;
  const sent = assert.rejects(client.send({ to: "bob", text: "hi" }), ClosedError);
  client.close();
  await sent;
  await assert.rejects(client.history({ to: "bob" }), ClosedError);
  assert.equal(clock.pending, 0);
});

test("a throwing listener harms nobody else", async () => {
  const cluster = new FakeCluster();
  const { client, clock, events, errors } = await online({}, cluster);
  client.on("message", () => {
    throw new Error("oops");
  });
  cluster.say("bob", "alice", "one");
  cluster.say("bob", "alice", "two");
  await clock.advance(0);
  assert.equal(events.length, 2);
  assert.deepEqual(
    errors.map((e) => e.code),
    ["listener", "listener"],
  );
  client.close();
});

test("options are checked", () => {
  const getToken = (): string => "";
  const transport = { connect: () => ({ send: () => {}, close: () => {} }) };
  assert.throws(() => new ParlanceClient({ gateways: [], getToken, transport }), /at least one/);
  assert.throws(() => new ParlanceClient({ gateways: ["http://x"], getToken, transport }), /ws:\/\//);
  assert.throws(() => new ParlanceClient({ gateways: ["ws://x"], getToken, transport, outboxMax: 0 }), /outboxMax/);
});

test("a socket that refuses the first frame after the log-in leaves no wrong state behind", async () => {
  const fix = fixture();
  const { client, clock, transport, states } = fix;
  const connect = transport.connect.bind(transport);
  let frames = 0;
  transport.connect = (url, protocol, events) => {
    const socket = connect(url, protocol, events);
    const send = (frame: Uint8Array): void => {
      frames += 1;
      if (frames === 2) throw new Error("InvalidStateError");
      socket.send(frame);
    };
    return { ...socket, send };
  };
  client.connect().catch(() => {});
  await clock.advance(0);
  assert.deepEqual(
    states.map(({ previous, state }) => `${previous} ${state}`),
    ["idle connecting", "connecting online", "online waiting"],
  );
  assert.deepEqual([client.connection.state, client.state], ["waiting", "waiting"]);
  await clock.advance(1_000);
  assert.deepEqual([client.connection.state, client.state], ["online", "online"]);
  client.close();
});

test("who closes the client when told that it is online has a closed client", async () => {
  const { client, clock } = fixture();
  client.on("state", ({ state }) => {
    if (state === "online") client.close();
  });
  client.connect().catch(() => {});
  await clock.advance(60_000);
  assert.equal(client.state, "closed");
  assert.equal(clock.pending, 0);
});

test("a connection that lasted was a good one, however the clock was set meanwhile", async () => {
  const { client, clock, transport, states } = fixture();
  client.connect().catch(() => {});
  await clock.advance(0);
  transport.last.cut();
  await clock.advance(1_000);
  clock.set(-3_600_000);
  await clock.advance(20_000);
  transport.last.cut();
  assert.equal(states.at(-1)?.retryInMs, 250, "half of the shortest wait");
  client.close();
});

test("a clock that was set back says nothing of the line", () => {
  for (const monotonic of [true, false]) {
    const clock = new FakeClock();
    if (!monotonic) Object.assign(clock, { monotonic: undefined });
    const pace = new Pace(stopwatch(clock));
    pace.slow();
    clock.set(-3_600_000);
    for (let i = 0; i < 20; i += 1) {
      clock.set(100);
      pace.answered(pace.bytes, pace.asked());
    }
    assert.deepEqual([pace.bytes, pace.parallel], [64 * 1024, 4]);
  }
});
