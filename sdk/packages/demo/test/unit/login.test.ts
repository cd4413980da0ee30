import assert from "node:assert/strict";
import { test } from "node:test";
import { dayOf, initials } from "../../src/format.js";
import { claimsOf, fromFragment } from "../../src/login.js";

const HERE = { protocol: "http:", host: "127.0.0.1:7070" };

test("a fragment names user, token and gateways", () => {
  const logIn = fromFragment("#user=alice&token=t.o.k&gateways=ws://a:1/ws,ws://b:2/ws,http://no", HERE);
  assert.deepEqual(logIn, { user: "alice", app: "", token: "t.o.k", gateways: ["ws://a:1/ws", "ws://b:2/ws"] });
});

test("without gateways it is the one that served the page", () => {
  assert.deepEqual(fromFragment("#token=t", HERE)?.gateways, ["ws://127.0.0.1:7070/ws"]);
  assert.deepEqual(fromFragment("#token=t", { protocol: "https:", host: "x" })?.gateways, ["wss://x/ws"]);
  assert.equal(fromFragment("#user=alice", HERE), undefined);
});

test("the user is read from the token when nothing else says it", () => {
  const claims = Buffer.from(JSON.stringify({ sub: "用户", app: "demo" })).toString("base64url");
  assert.deepEqual(claimsOf(`x.${claims}.y`), { sub: "用户", app: "demo" });
  for (const token of ["", "a", "a.!.b", `a.${Buffer.from("[]").toString("base64url")}.b`])
    assert.deepEqual(claimsOf(token), { sub: "", app: "" });
});

test("days and initials are for people", () => {
  const now = new Date(2026, 4, 10, 12).getTime();
  assert.equal(dayOf(now - 3_600_000, now), "Today");
  assert.equal(dayOf(now - 86_400_000, now), "Yesterday");
  assert.equal(initials("dave.miller"), "DM");
  assert.equal(initials("用户"), "用");
  assert.equal(initials("…"), "?");
});
