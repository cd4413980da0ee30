import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CloseCode,
  PermissionError,
  ReplacedError,
  TokenError,
  VersionError,
  type TokenReason,
} from "../../src/index.js";
import { PROTOCOLS } from "../../src/version.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { fixture, online } from "../support/fixture.js";

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
  client.close();
});

test("a token is renewed on the open connection before it ends", async () => {
  const reasons: TokenReason[] = [];
  const getToken = (reason: TokenReason): string => {
    reasons.push(reason);
    return `alice@${reasons.length}`;
  };
  const { client, clock, cluster, transport, states } = await online({ getToken });
  cluster.pushAll({ $case: "tokenExpiring", value: { tokenExpiresMs: 0, withinMs: 30_000 } });
  await clock.advance(0);
  assert.deepEqual(reasons, ["first", "expired"]);
  const renewals = cluster.requests.filter((body) => body?.$case === "renew").map((body) => body.value.token);
  assert.deepEqual(renewals, ["alice@2"]);
  assert.equal(states.length, 2, "the connection stays");
  // The next log-in has it, too.
  transport.last.cut();
  await clock.advance(1_000);
  const logIns = cluster.requests.filter((body) => body?.$case === "login").map((body) => body.value.token);
  assert.deepEqual(logIns, ["alice@1", "alice@2"]);
  client.close();
});

test("a renewal that fails is told, and the next log-in asks for a token again", async () => {
  let broken = false;
  const reasons: TokenReason[] = [];
  const getToken = (reason: TokenReason): string => {
    reasons.push(reason);
    if (broken) throw new Error("no server");
    return "alice";
  };
  const { client, clock, cluster, transport, errors } = await online({ getToken });
  broken = true;
  cluster.pushAll({ $case: "tokenExpiring", value: { tokenExpiresMs: 0, withinMs: 30_000 } });
  await clock.advance(0);
  assert.equal(errors.at(-1)?.code, "token_source");
  broken = false;
  transport.last.cut(CloseCode.tokenExpired);
  await clock.advance(0);
  assert.deepEqual(reasons, ["first", "expired", "expired"]);
  assert.equal(client.state, "online");
  client.close();
});

test("a renewal is tried again while the session lasts", async () => {
  let tries = 0;
  const getToken = (): string => {
    tries += 1;
    if (tries === 2) throw new Error("no server");
    return tries === 3 ? "alice!invalid" : `alice@${tries}`;
  };
  const { client, clock, cluster, transport } = await online({ getToken });
  cluster.pushAll({ $case: "tokenExpiring", value: { tokenExpiresMs: 0, withinMs: 30_000 } });
  await clock.advance(5_000);
  const renewals = cluster.requests.filter((body) => body.$case === "renew").map((body) => body.value.token);
  assert.deepEqual(renewals, ["alice!invalid", "alice@4"]);
  assert.equal(transport.links.length, 1);
  client.close();
  assert.equal(clock.pending, 0);
});

test("who was thrown out and is let in again comes with another token", async () => {
  const reasons: TokenReason[] = [];
  const getToken = (reason: TokenReason): string => {
    reasons.push(reason);
    return "alice";
  };
  const { client, clock, transport } = await online({ getToken });
  transport.last.cut(CloseCode.kicked);
  await clock.advance(60_000);
  assert.deepEqual([client.state, reasons.length], ["closed", 1]);
  await Promise.all([client.connect(), clock.advance(0)]);
  assert.deepEqual([client.state, reasons.length], ["online", 2]);
  client.close();
});

test("who was thrown out or replaced, and users of a disabled app, do not come back by themselves", async () => {
  for (const [code, name] of [
    [CloseCode.kicked, "kicked"],
    [CloseCode.appDisabled, "app_disabled"],
    [CloseCode.replaced, "replaced"],
  ] as const) {
    const { client, clock, states, transport } = await online();
    transport.last.cut(code);
    await clock.advance(60_000);
    assert.equal(client.state, "closed");
    const error = states.at(-1)?.error;
    assert.equal(error?.code, name);
    assert.ok(code === CloseCode.replaced ? error instanceof ReplacedError : error instanceof PermissionError);
  }
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

test("connect rejects when the app has no good token, and the client asks for one until it is good", async () => {
  let token = "alice!invalid";
  const reasons: TokenReason[] = [];
  const getToken = (reason: TokenReason): string => {
    reasons.push(reason);
    return token;
  };
  const { client, clock, states } = fixture({ getToken });
  const connected = assert.rejects(client.connect(), TokenError);
  await clock.advance(0);
  await connected;
  assert.equal(client.state, "waiting");
  assert.equal(states.at(-1)?.error?.code, "token_invalid");
  await clock.advance(60_000);
  assert.ok(reasons.length > 4 && reasons.length < 15, `asked with back-off, not ${reasons.length} times`);
  assert.ok(reasons.slice(1).every((reason) => reason === "refused"));
  token = "alice";
  await clock.advance(20_000);
  assert.equal(client.state, "online");
  client.close();
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

test("a getToken that never answers is asked again, and what it says too late is not used", async () => {
  const late: ((token: string) => void)[] = [];
  let works = false;
  const getToken = (): Promise<string> | string => (works ? "alice" : new Promise((resolve) => late.push(resolve)));
  const { client, clock, errors, cluster } = fixture({ getToken });
  const connected = client.connect();
  await clock.advance(60_000);
  assert.ok(late.length > 3, `asked ${late.length} times in a minute`);
  assert.ok(errors.length > 2 && errors.every((error) => error.code === "token_source"));
  late[0]?.("bob");
  works = true;
  await clock.advance(20_000);
  assert.equal((await connected).userId, "alice");
  const logIns = cluster.requests.filter((body) => body.$case === "login").map((body) => body.value.token);
  assert.deepEqual(logIns, ["alice"]);
  client.close();
  assert.equal(clock.pending, 0);
});

test("a renewal whose getToken never answers is tried again", async () => {
  let calls = 0;
  const getToken = (): Promise<string> | string => {
    calls += 1;
    return calls === 2 ? new Promise(() => {}) : `alice@${calls}`;
  };
  const { client, clock, cluster } = await online({ getToken });
  cluster.pushAll({ $case: "tokenExpiring", value: { tokenExpiresMs: 0, withinMs: 30_000 } });
  await clock.advance(12_000);
  const renewals = cluster.requests.filter((body) => body.$case === "renew").map((body) => body.value.token);
  assert.deepEqual(renewals, ["alice@3"]);
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

test("the log-in says which versions are spoken, and the session which one was chosen", async () => {
  const { client, cluster } = await online();
  const [login] = cluster.requests;
  assert.ok(login?.$case === "login");
  assert.deepEqual(login.value.protocol, PROTOCOLS);
  assert.deepEqual([client.session?.protocol, client.session?.capabilities], [1, ["ordered_sends"]]);
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

test("a gateway that is told nothing in time says so, and is asked again", async () => {
  const { client, clock, transport, states, cluster } = fixture();
  const handle = cluster.handle.bind(cluster);
  let stalled = true;
  cluster.handle = (session, body) => (stalled ? undefined : handle(session, body));
  const connected = client.connect();
  await clock.advance(5_000);
  const { session } = transport.last;
  // As the gateway does it: an error that answers nothing, then the close.
  session.push({ $case: "error", value: { code: 200, message: "no login in time", field: "", retryAfterMs: 0 } });
  await clock.advance(0);
  assert.equal(client.state, "waiting");
  assert.match(states.at(-1)?.error?.message ?? "", /no login in time/);
  stalled = false;
  await clock.advance(1_000);
  assert.equal((await connected).userId, "alice");
  client.close();
});
