import { document } from "../support/dom.js";
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { act, createElement, type ReactElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { FakeCluster } from "../../../client/test/support/fake-cluster.js";
import { ErrorCode } from "../../../client/src/gen/parlance/common/v1/error.js";
import { type Fixture, fixture, GATEWAYS } from "../../../client/test/support/fixture.js";
import {
  type Messages,
  ParlanceProvider,
  useClient,
  useConnection,
  useConversation,
  useConversations,
  useEvent,
  useMessages,
  useUnreadCount,
} from "../../src/index.js";

interface Mounted extends Fixture {
  /** What the page says now. */
  text(): string;
  /** Lets everything happen that is due. */
  go(ms?: number): Promise<void>;
  unmount(): Promise<void>;
}

/** Draws a component below a provider, twice as StrictMode does it, and logs in. */
async function mount(
  component: () => ReactElement,
  cluster = new FakeCluster(),
  options = {},
  prepare: (transport: Fixture["transport"]) => void = () => {},
): Promise<Mounted> {
  const fix = fixture(options, cluster);
  prepare(fix.transport);
  const container = document.createElement("div");
  document.body.append(container);
  const root = createRoot(container);
  const page = createElement(ParlanceProvider, { client: fix.client }, createElement(component));
  await act(async () => root.render(createElement(StrictMode, null, page)));
  const go = (ms = 0): Promise<void> => act(() => fix.clock.advance(ms));
  await go();
  return { ...fix, go, text: () => container.textContent ?? "", unmount: () => act(async () => root.unmount()) };
}

const span = (...texts: unknown[]): ReactElement => createElement("span", null, texts.join(" "));

after(() => document.defaultView?.close());

test("a provider connects when it is mounted, also twice, and closes when it is not", async () => {
  const page = await mount(() => {
    const { state } = useConnection();
    return span(state, useClient().session?.userId);
  });
  assert.equal(page.text(), "online alice");
  await act(async () => page.transport.last.cut());
  await page.go();
  assert.match(page.text(), /^waiting/);
  await page.go(5_000);
  assert.equal(page.text(), "online alice");
  await page.unmount();
  await page.clock.advance(0);
  assert.equal(page.client.state, "closed");
  assert.equal(page.clock.pending, 0);
  assert.equal(page.cluster.sessions.size, 0);
});

test("the list and the counts follow, and a row is drawn for its own changes only", async () => {
  const drawn = { bob: 0, carol: 0 };
  const row = (peer: "bob" | "carol") => () => {
    drawn[peer] += 1;
    const conversation = useConversation(`d:5:alice:${peer}`);
    return span(peer, conversation?.headSeq ?? "-");
  };
  const [bob, carol] = [row("bob"), row("carol")];
  const list = () =>
    span(
      useConversations()
        .map((c) => c.peer)
        .join(),
      useUnreadCount(),
    );
  const cluster = new FakeCluster();
  cluster.say("carol", "alice", "1");
  const page = await mount(
    () => createElement("div", null, createElement(bob), createElement(carol), createElement(list)),
    cluster,
  );
  assert.equal(page.text(), "bob -carol 1carol 1");
  const before = { ...drawn };
  cluster.say("bob", "alice", "1");
  cluster.say("bob", "alice", "2");
  await page.go();
  assert.equal(page.text(), "bob 2carol 1bob,carol 3");
  assert.ok(drawn.bob > before.bob);
  assert.equal(drawn.carol, before.carol);
  await page.unmount();
});

test("messages load by themselves, page back, come in, and go out", async () => {
  let messages: Messages | undefined;
  const thread = () => {
    messages = useMessages({ to: "bob" });
    const { events, pending, more } = messages;
    return span(events[0]?.seq ?? "-", events.length, pending.length, more);
  };
  const cluster = new FakeCluster();
  for (let i = 1; i <= 70; i += 1) cluster.say("bob", "alice", String(i), `b${i}`);
  const page = await mount(thread, cluster);
  assert.equal(page.text(), "21 50 0 true");
  await act(() => Promise.all([messages?.loadOlder(), page.clock.advance(0)]).then(() => {}));
  assert.equal(page.text(), "1 70 0 false");
  cluster.say("bob", "alice", "new");
  await page.go();
  assert.equal(page.text(), "1 71 0 false");
  cluster.beforeSend = () => true;
  let sent: Promise<unknown> | undefined;
  await act(async () => {
    sent = messages?.send({ text: "mine" });
  });
  assert.equal(page.text(), "1 71 1 false");
  cluster.beforeSend = undefined;
  await act(async () => page.transport.last.cut());
  await page.go(5_000);
  await sent;
  assert.equal(page.text(), "1 72 0 false");
  await page.unmount();
});

test("messages that could not be loaded without a network come when it is back, and a failed send is only shown", async () => {
  let messages: Messages | undefined;
  const thread = () => {
    messages = useMessages({ to: "bob" });
    const { events, pending } = messages;
    return span(events.length, pending[0]?.error?.code ?? "-");
  };
  const cluster = new FakeCluster();
  cluster.say("bob", "alice", "1");
  const owner = { appId: "demo", userId: "alice" };
  const page = await mount(thread, cluster, { owner }, (transport) => {
    for (const gateway of GATEWAYS) transport.down.add(gateway);
  });
  await page.go(20_000);
  assert.equal(page.text(), "0 -");
  page.transport.down.clear();
  await page.go(60_000);
  assert.equal(page.text(), "1 -");
  cluster.beforeSend = () => cluster.refuse(ErrorCode.ERROR_CODE_PERMISSION_DENIED);
  await act(async () => void messages?.send({ text: "mine" }));
  await page.go();
  assert.equal(page.text(), "1 permission_denied");
  await page.unmount();
});

test("before the first log-in there are no messages, and with an owner there can be", async () => {
  const seen: string[] = [];
  const thread = () => {
    const { conversationId } = useMessages({ to: "bob" });
    if (!seen.includes(conversationId)) seen.push(conversationId);
    return span(conversationId);
  };
  await (await mount(thread)).unmount();
  assert.deepEqual(seen, ["", "d:5:alice:bob"]);
  seen.length = 0;
  await (await mount(thread, new FakeCluster(), { owner: { appId: "demo", userId: "alice" } })).unmount();
  assert.deepEqual(seen, ["d:5:alice:bob"]);
});

test("an event's listener is the newest one, and hears nothing after the unmount", async () => {
  const heard: string[] = [];
  const listening = () => {
    const count = useConversations().length;
    useEvent("message", ({ seq }) => heard.push(`${count} ${seq}`));
    return span(count);
  };
  const page = await mount(listening);
  page.cluster.say("bob", "alice", "1");
  await page.go();
  page.cluster.say("bob", "alice", "2");
  await page.go();
  assert.deepEqual(heard, ["0 1", "1 2"]);
  await page.unmount();
  page.client.connect().catch(() => {});
  page.cluster.say("bob", "alice", "3");
  await page.clock.advance(0);
  assert.equal(heard.length, 2);
  page.client.close();
});

test("a hook without a provider says so", async () => {
  const root = createRoot(document.createElement("div"));
  const alone = () => span(useConnection().state);
  const { error } = console;
  console.error = () => {};
  try {
    await assert.rejects(async () => act(async () => root.render(createElement(alone))), /no ParlanceProvider/);
  } finally {
    console.error = error;
  }
});
