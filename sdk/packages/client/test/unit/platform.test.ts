import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as door from "../../src/index.js";
import { Backoff } from "../../src/backoff.js";
import { errorName } from "../../src/codes.js";
import { fromWire } from "../../src/errors.js";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import { fraction, newId } from "../../src/random.js";
import { compareBytes, cutUtf8, decodeUtf8, encodeUtf8, utf8Length } from "../../src/utf8.js";
import { VERSION } from "../../src/version.js";

test("UTF-8 by hand is what the platform does", () => {
  const samples = [
    "",
    "abc",
    "äöü ß",
    "用户",
    "🙂👩‍👩‍👧",
    "\u0000\u007f\u0080\u07ff\u0800\uffff",
    "a\ud800b",
    "\udc00",
    "\ufeffbom",
  ];
  for (const text of samples) {
    const bytes = new TextEncoder().encode(text);
    assert.deepEqual(encodeUtf8(text), bytes);
    assert.equal(decodeUtf8(bytes), new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
  }
});

test("lengths in UTF-8 are counted without encoding, and cuts leave whole characters", () => {
  for (const text of ["", "abc", "äöü ß", "用户", "🙂👩‍👩‍👧", "a\ud800b", "\udc00", "\ud83d\ud83d\ude42"]) {
    const bytes = encodeUtf8(text);
    assert.equal(utf8Length(text), bytes.length, JSON.stringify(text));
    for (let max = 0; max <= bytes.length; max += 1) {
      const cut = cutUtf8(text, max);
      assert.ok(text.startsWith(cut) && encodeUtf8(cut).length <= max);
      assert.ok(!/[\ud800-\udbff]$/.test(cut) || text === cut || !/^[\udc00-\udfff]/.test(text.slice(cut.length)));
      assert.ok(max < bytes.length || cut === text);
    }
  }
});

test("bytes that are no UTF-8 read as the platform reads them, and throw when strict", () => {
  const broken = [
    [0x80],
    [0xc0, 0xaf],
    [0xe2, 0x82],
    [0xed, 0xa0, 0x80],
    [0xf5, 0x80],
    [0xf0, 0x80, 0x80, 0x80],
    [0x61, 0xff, 0x62],
    [0xe2, 0x28, 0xa1],
  ];
  for (const list of broken) {
    const bytes = Uint8Array.from(list);
    assert.equal(decodeUtf8(bytes), new TextDecoder().decode(bytes), String(list));
    assert.throws(() => decodeUtf8(bytes, true));
  }
  let seed = 7;
  for (let round = 0; round < 2_000; round += 1) {
    const bytes = Uint8Array.from({ length: round % 12 }, () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return (seed >> 8) & 0xff;
    });
    assert.equal(decodeUtf8(bytes), new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes), String([...bytes]));
  }
});

test("ids of direct conversations order users by their bytes", () => {
  assert.equal(door.directConversationId("bob", "alice"), "d:5:alice:bob");
  assert.equal(door.directConversationId("a", "a:b"), "d:1:a:a:b");
  // By UTF-16 units the second would come first.
  assert.equal(door.directConversationId("\uff5e", "\u{10400}"), "d:3:\uff5e:\u{10400}");
  assert.ok(compareBytes("a", "ab") < 0);
});

test("jitter is full: from nothing to the bound, which doubles to a limit", () => {
  const at = (byte: number) =>
    new Backoff({ baseMs: 100, maxMs: 1_000 }, { bytes: (n) => new Uint8Array(n).fill(byte) });
  const low = at(0);
  const high = at(255);
  assert.deepEqual([low.next(), low.next(), low.next(70)], [0, 0, 70]);
  assert.deepEqual([high.next(), high.next(), high.next(), high.next(), high.next()], [99, 199, 399, 799, 999]);
  high.reset();
  assert.equal(high.next(), 99);
  for (let i = 0; i < 1_000; i += 1) {
    const part = fraction(door.platformRandom);
    assert.ok(part >= 0 && part < 1);
  }
});

test("ids do not repeat, also without crypto", () => {
  const ids = new Set(Array.from({ length: 1_000 }, () => newId(door.platformRandom)));
  assert.equal(ids.size, 1_000);
  for (const id of ids) assert.match(id, /^[0-9a-f]{32}$/);
});

test("every error code of the protocol has a name, and retryable is the 4xx range", () => {
  for (const code of Object.values(ErrorCode)) {
    if (typeof code !== "number" || code <= 0) continue;
    const expected = ErrorCode[code]?.replace("ERROR_CODE_", "").toLowerCase();
    assert.equal(errorName(code), expected);
    const error = fromWire({ code, message: "m", field: "f", retryAfterMs: 5 });
    assert.equal(error.retryable, code >= 400 && code < 500);
    assert.equal(error.name, error.constructor.name);
    assert.deepEqual([error.message, error.field, error.retryAfterMs], ["m", "f", 5]);
  }
  assert.equal(errorName(499), "unavailable");
  assert.equal(errorName(999), "internal");
});

test("close codes are those of docs/protocol.md, and are obeyed as it says", () => {
  const text = readFileSync(new URL("../../../../../docs/protocol.md", import.meta.url), "utf8");
  const rows = [...text.matchAll(/^\| (\d{4}) \| `(\w+)`[^|]*\| ([^|]+) \|$/gm)];
  const documented = rows.map(([, code, name = "", reconnect = ""]) => {
    const action = /new token/.test(reconnect)
      ? "new_token"
      : reconnect.startsWith("no")
        ? "stop"
        : reconnect.startsWith("at once")
          ? "elsewhere"
          : "back_off";
    return { name: name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()), code: Number(code), action };
  });
  const { normal, abnormal, ...known } = door.CloseCode;
  assert.deepEqual([normal, abnormal], [1000, 1006], "the client's own");
  const ours = Object.entries(known).map(([name, code]) => ({ name, code, action: door.closeAction(code) }));
  assert.deepEqual(ours, documented);
});

test("the version in the log-in is that of the package", () => {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { version } = JSON.parse(text) as { version: string };
  assert.equal(VERSION, `parlance-ts/${version}`);
});

test("the public door is what it was: a change here is a change for users", () => {
  assert.deepEqual(Object.keys(door).sort(), [
    "AppError",
    "CancelledError",
    "CloseCode",
    "ClosedError",
    "ConflictError",
    "ConnectionError",
    "IndexedDbStore",
    "InternalError",
    "KeyValueStore",
    "MemoryStore",
    "ParlanceClient",
    "ParlanceError",
    "PermissionError",
    "ProtocolError",
    "QueueFullError",
    "ReplacedError",
    "RequestError",
    "StateError",
    "TimedOutError",
    "TokenError",
    "UnavailableError",
    "VersionError",
    "closeAction",
    "directConversationId",
    "jsonOf",
    "platformRandom",
    "systemClock",
    "weChatStorage",
    "weChatTransport",
    "webSocketTransport",
    "webStorage",
  ]);
});
