// Ways to listen.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConversationMessage, jsonOf, QueueFullError } from "../../src/index.js";
import { online, texts } from "../support/fixture.js";

test("a listener hears until it is taken off, and a single one once", async () => {
  const { client, clock, cluster } = await online();
  const heard: string[] = [];
  const listener = (message: ConversationMessage): void => void heard.push(...texts([message]));
  client.on("message", listener);
  client.once("message", () => heard.push("once"));
  client.once("message", () => heard.push("never"))();
  cluster.say("bob", "alice", "1");
  cluster.say("bob", "alice", "2");
  await clock.advance(0);
  client.off("message", listener);
  cluster.say("bob", "alice", "3");
  await clock.advance(0);
  assert.deepEqual(heard, ["1", "once", "2"]);
  client.close();
});

test("a loop gets events one after the other, and ends with break, signal and close", async () => {
  const { client, clock, cluster } = await online();
  const heard: string[] = [];
  const stop = new AbortController();
  const loops = [undefined, stop.signal].map(async (signal) => {
    for await (const message of client.stream("message", signal === undefined ? {} : { signal })) {
      heard.push(...texts([message]));
    }
    heard.push("end");
  });
  const first = (async () => {
    for await (const message of client.stream("message")) return texts([message])[0];
    return "none";
  })();
  cluster.say("bob", "alice", "1");
  await clock.advance(0);
  assert.equal(await first, "1");
  stop.abort();
  cluster.say("bob", "alice", "2");
  await clock.advance(0);
  client.close();
  await Promise.all(loops);
  assert.deepEqual(heard, ["1", "1", "end", "2", "end"]);
});

test("a loop whose signal was aborted before it began ends at once, and nothing listens for it", async () => {
  const { client, clock, cluster } = await online();
  const aborted = new AbortController();
  aborted.abort();
  const stream = client.stream("message", { signal: aborted.signal, max: 0 });
  cluster.say("bob", "alice", "1");
  await clock.advance(0);
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
  client.close();
});

test("a loop that is too slow is told, and what waited is still read", async () => {
  const { client, clock, cluster } = await online();
  const stream = client.stream("message", { max: 2 });
  for (const text of ["1", "2", "3"]) cluster.say("bob", "alice", text);
  await clock.advance(0);
  const read: string[] = [];
  await assert.rejects(async () => {
    for await (const message of stream) read.push(...texts([message]));
  }, QueueFullError);
  assert.deepEqual(read, ["1", "2"]);
  assert.equal((await stream.next()).done, true);
  client.close();
});

test("JSON goes as custom content, and what is no JSON reads as undefined", async () => {
  const { client, clock, events } = await online();
  const said = { sticker: "猫", tags: [1, null, true] };
  const sending = client.send({ to: "bob", customType: 7, json: said });
  await Promise.all([sending, clock.advance(0)]);
  const [event] = events;
  assert.ok(event?.type === "message" && event.content.type === "custom");
  assert.equal(event.content.customType, 7);
  assert.deepEqual(jsonOf(event.content), said);
  assert.equal(jsonOf({ type: "text", text: "{}" }), undefined);
  assert.equal(jsonOf({ type: "custom", customType: 7, data: Uint8Array.of(0xff) }), undefined);
  await assert.rejects(client.send({ to: "bob", customType: 7, json: undefined }), TypeError);
  client.close();
});
