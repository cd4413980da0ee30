import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CloseCode,
  ClosedError,
  ConflictError,
  ParlanceClient,
  ProtocolError,
  TokenError,
  VersionError,
} from "../../src/index.js";
import type { TokenReason } from "../../src/index.js";
import { PROTOCOLS } from "../../src/version.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { fixture, GATEWAYS, online } from "../support/fixture.js";

test("connect logs in and resolves with the session", async () => {
  const { client, states, transport } = await online();
  assert.equal(client.session?.userId, "alice");
  assert.equal(client.session?.limits.historyEventsMax, 200);
  assert.deepEqual(
    states.map((s) => s.state),
    ["connecting", "online"],
  );
  assert.equal(transport.last.protocol, "parlance.v1");
  client.close();
});

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

test("the token is kept over reconnects, and asked for again when it expired", async () => {
  const reasons: TokenReason[] = [];
  let token = "alice";
  const getToken = (reason: TokenReason): string => {
    reasons.push(reason);
    return token;
  };
  const { client, clock, transport } = await online({ getToken });
  transport.last.cut();
  await clock.advance(1_000);
  assert.deepEqual(reasons, ["first"]);
  token = "alice!expired";
  transport.last.cut(CloseCode.tokenRefused);
  await clock.advance(0);
  assert.deepEqual(reasons, ["first", "expired"]);
  assert.equal(client.state, "closed", "two refusals in a row end it");
});

test("an expired token is replaced at once", async () => {
  const given = ["alice!expired", "alice"];
  const reasons: TokenReason[] = [];
  const getToken = (reason: TokenReason): string => {
    reasons.push(reason);
    return given.shift() ?? "";
  };
  const { client } = await online({ getToken });
  assert.deepEqual(reasons, ["first", "expired"]);
  assert.equal(client.state, "online");
  client.close();
});

test("connect rejects when the app has no good token", async () => {
  const { client, clock, states } = fixture({ getToken: () => "alice!invalid" });
  const connected = assert.rejects(client.connect(), TokenError);
  await clock.advance(0);
  await connected;
  assert.equal(states.at(-1)?.error?.code, "token_invalid");
});

test("a getToken that fails is asked again, and told", async () => {
  let tries = 0;
  const getToken = async (): Promise<string> => {
    tries += 1;
    if (tries < 3) throw new Error("no network");
    return "alice";
  };
  const { client, clock, errors } = fixture({ getToken });
  void client.connect();
  await clock.advance(2_000);
  assert.equal(client.state, "online");
  assert.deepEqual(
    errors.map((e) => e.code),
    ["token_source", "token_source"],
  );
  client.close();
});

test("a token of another user ends the client instead of mixing two users' messages", async () => {
  const given = ["alice", "bob"];
  const { client, clock, transport, states } = await online({ getToken: () => given.shift() ?? "" });
  transport.last.cut(CloseCode.tokenRefused);
  await clock.advance(0);
  assert.equal(client.state, "closed");
  assert.equal(states.at(-1)?.error?.code, "user_changed");
});

test("close codes are obeyed by their range", async () => {
  const cases: [number, "closed" | "waiting" | "online"][] = [
    [1000, "waiting"],
    [1001, "online"],
    [1006, "waiting"],
    [1009, "closed"],
    [4000, "closed"],
    [4001, "closed"],
    [4004, "closed"],
    [4042, "closed"],
    [4100, "waiting"],
    [4101, "waiting"],
    [4103, "waiting"],
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
  await assert.rejects(client.connect(), ClosedError);
});

test("the log-in says which versions are spoken, and the session which one was chosen", async () => {
  const { client, cluster } = await online();
  const [login] = cluster.requests;
  assert.ok(login?.$case === "login");
  assert.deepEqual(login.value.protocol, PROTOCOLS);
  assert.deepEqual([client.session?.protocol, client.session?.capabilities], [1, []]);
  client.close();
});

test("without a common version of the protocol connect rejects, and nothing is tried again", async () => {
  const cluster = new FakeCluster();
  cluster.protocols = { min: 7, max: 8 };
  const { client, clock, transport } = fixture({}, cluster);
  const connected = assert.rejects(client.connect(), (error) => {
    assert.ok(error instanceof VersionError);
    assert.deepEqual([error.code, error.retryable], ["unsupported", false]);
    assert.match(error.message, /speaks versions 1 to 1 .* the gateway none of them/);
    return true;
  });
  await clock.advance(60_000);
  await connected;
  assert.equal(transport.links.length, 1);
  assert.equal(client.state, "closed");
});

test("close code 4004 alone says the same", async () => {
  const { client, transport, states } = await online();
  transport.last.cut(CloseCode.unsupported);
  assert.equal(client.state, "closed");
  assert.ok(states.at(-1)?.error instanceof VersionError);
});

test("a gateway that chooses a version which was not offered is left for good", async () => {
  for (const chosen of [0, 2]) {
    const cluster = new FakeCluster();
    const handle = cluster.handle.bind(cluster);
    cluster.handle = (session, body) => {
      const answer = handle(session, body);
      return answer?.$case === "login" ? { ...answer, value: { ...answer.value, protocol: chosen } } : answer;
    };
    const { client, clock } = fixture({}, cluster);
    const connected = assert.rejects(client.connect(), VersionError);
    await clock.advance(60_000);
    await connected;
    assert.equal(client.state, "closed", `version ${chosen}`);
    assert.equal(clock.pending, 0);
  }
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
  await Promise.resolve();
  await Promise.resolve();
  transport.last.silent = true;
  await clock.advance(10_000);
  assert.equal(client.state, "waiting");
  await clock.advance(1_000);
  assert.equal(client.state, "online");
  client.close();
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
  assert.ok(ConflictError);
});
