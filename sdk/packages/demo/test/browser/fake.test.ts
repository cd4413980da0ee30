// The page against gateways in this process: what only a fake can do on demand, such as failing.
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Browser } from "playwright-core";
import { ErrorCode } from "../../../client/src/gen/parlance/common/v1/error.js";
import { FakeCluster } from "../../../client/test/support/fake-cluster.js";
import { WsGateway } from "../../../client/test/support/ws-gateway.js";
import { chat, launch } from "./story.js";

const DIST = fileURLToPath(new URL("../../dist", import.meta.url));

let browser: Browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

function address(gateway: WsGateway, user: string, others: readonly WsGateway[] = []): string {
  const gateways = others.length === 0 ? "" : `&gateways=${[gateway, ...others].map((g) => g.url).join(",")}`;
  return `http://127.0.0.1:${gateway.port}/#user=${user}&token=${user}${gateways}`;
}

/** Runs in the page: how many rows the store has. Waits until nothing is being deleted. */
const rowsOfStore = `new Promise((resolve, reject) => {
  const open = indexedDB.open("parlance");
  open.onerror = () => reject(open.error);
  open.onsuccess = () => {
    const count = () => {
      const request = open.result.transaction("rows", "readonly").objectStore("rows").count();
      request.onsuccess = () => (request.result === 0 ? resolve(0) : setTimeout(count, 20));
    };
    count();
  };
})`;

/** Runs in the page: waits until the store has so many unsent messages. */
const unsentRows = (wanted: number) => `new Promise((resolve, reject) => {
  const open = indexedDB.open("parlance");
  open.onerror = () => reject(open.error);
  open.onsuccess = () => {
    const count = () => {
      const request = open.result.transaction("rows", "readonly").objectStore("rows").getAllKeys();
      request.onsuccess = () => {
        const unsent = request.result.filter((key) => key.includes("/o/")).length;
        return unsent === ${wanted} ? resolve(unsent) : setTimeout(count, 20);
      };
    };
    count();
  };
})`;

test("two windows chat through two gateways, over a break", async (t) => {
  const cluster = new FakeCluster();
  let one = await WsGateway.start(cluster, DIST);
  const two = await WsGateway.start(cluster, DIST);
  const { port } = one;
  const cut = async (): Promise<() => Promise<void>> => {
    await one.stop();
    return async () => {
      one = await WsGateway.start(cluster, DIST, port);
    };
  };
  try {
    const shots = await chat(browser, { alice: address(one, "alice"), bob: address(two, "bob", [two]), cut });
    t.diagnostic(`screenshots in ${shots}`);
  } finally {
    await Promise.all([one.stop(), two.stop()]);
  }
});

test("a failed send can be sent again, long histories page back, and a bad token asks for another", async (t) => {
  const shots = mkdtempSync(join(tmpdir(), "parlance-page-"));
  const cluster = new FakeCluster();
  const gateway = await WsGateway.start(cluster, DIST);
  cluster.now = Date.now() - 3 * 86_400_000;
  for (let i = 1; i <= 120; i += 1) {
    cluster.say(
      i % 3 === 0 ? "alice" : "bob",
      i % 3 === 0 ? "bob" : "alice",
      `message ${i} of a long talk`,
      `old-${i}`,
    );
    cluster.now += 1_700_000;
  }
  cluster.now = Date.now();
  for (const user of ["carol", "用户", "dave.m", "erin"])
    cluster.say(user, "alice", `It is me, ${user}. Shall we talk about the plan for next week, or is it too early?`);
  const page = await (await browser.newContext({ viewport: { width: 1100, height: 780 } })).newPage();
  page.setDefaultTimeout(10_000);
  try {
    await page.goto(`http://127.0.0.1:${gateway.port}/`);
    await page.screenshot({ path: join(shots, "log-in.png") });
    await page.getByLabel("Token").fill("alice!invalid");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").filter({ hasText: "logged out" }).waitFor();
    await page.getByLabel("Token").fill("alice");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.locator("[data-peer=bob]").getByRole("button").click();
    await page.getByText("message 120 of a long talk", { exact: true }).last().waitFor();
    assert.equal(await page.getByText("message 1 of a long talk", { exact: true }).count(), 0);
    const messages = page.locator(".message");
    for (let shown = await messages.count(); shown < 120; shown = await messages.count()) {
      await page.locator(".scroller").evaluate((scroller: { scrollTop: number }) => {
        scroller.scrollTop = 0;
      });
      await messages.nth(shown).waitFor({ state: "attached" });
    }
    await page.getByText("This is where it began.").waitFor();
    assert.equal(await messages.count(), 120);
    const numbers = (await page.locator(".message .text").allTextContents()).map((text) => Number(text.split(" ")[1]));
    assert.deepEqual(
      numbers,
      Array.from({ length: 120 }, (_, i) => i + 1),
    );
    await page.screenshot({ path: join(shots, "scrolled-back.png") });

    cluster.beforeSend = () => cluster.refuse(ErrorCode.ERROR_CODE_PERMISSION_DENIED);
    await page.getByLabel("Message to bob").fill("Does this arrive?");
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await page.getByRole("button", { name: "Send again" }).waitFor();
    await page.screenshot({ path: join(shots, "failed.png") });
    cluster.beforeSend = undefined;
    await page.getByRole("button", { name: "Send again" }).click();
    const row = page.locator(".message", { hasText: "Does this arrive?" });
    await row.getByRole("img", { name: "Stored" }).waitFor();
    assert.equal(await row.count(), 1);
    t.diagnostic(`screenshots in ${shots}`);
  } finally {
    await page.context().close();
    await gateway.stop();
  }
});

test("a reload without a network shows what was there, and what was unsent goes out once", async (t) => {
  const shots = mkdtempSync(join(tmpdir(), "parlance-page-"));
  const cluster = new FakeCluster();
  // One serves the page, the other one the messages.
  const pages = await WsGateway.start(cluster, DIST);
  let gateway = await WsGateway.start(cluster);
  const { port, url } = gateway;
  cluster.now = Date.now();
  for (let i = 1; i <= 5; i += 1) cluster.say("bob", "alice", `before ${i}`);
  const claims = Buffer.from(JSON.stringify({ sub: "alice", app: "demo" })).toString("base64url");
  const page = await (await browser.newContext({ viewport: { width: 1100, height: 780 } })).newPage();
  page.setDefaultTimeout(10_000);
  const bob = page.locator("[data-peer=bob]").getByRole("button");
  const message = (text: string) => page.locator(".message", { hasText: text });
  try {
    await page.goto(`http://127.0.0.1:${pages.port}/#token=x.${claims}.y&gateways=${url}`);
    await bob.click();
    await message("before 5").waitFor();
    cluster.say("bob", "alice", "seen");
    await message("seen").waitFor();
    await gateway.stop();
    await page.locator(".banner", { hasText: "Connection lost" }).waitFor();
    await page.getByLabel("Message to bob").fill("unsent");
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await message("unsent").getByRole("img", { name: "Sending" }).waitFor();
    await page.reload();
    await bob.click();
    await message("seen").waitFor();
    await message("unsent").getByRole("img", { name: "Sending" }).waitFor();
    await page.screenshot({ path: join(shots, "offline.png") });
    gateway = await WsGateway.start(cluster, undefined, port);
    await message("unsent").getByRole("img", { name: "Stored" }).waitFor();
    const said = cluster.log("alice", "bob").map((event) => event.body?.value.content?.kind?.value);
    assert.deepEqual(said.slice(-2), ["seen", "unsent"]);
    // Logging out leaves nothing for the next one.
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByLabel("Token").waitFor();
    const rows = await page.evaluate(rowsOfStore);
    assert.equal(rows, 0);
    t.diagnostic(`screenshots in ${shots}`);
  } finally {
    await page.context().close();
    await Promise.all([pages.stop(), gateway.stop()]);
  }
});

test("of two tabs without a network the one that stays sends what both left, each once", async () => {
  const cluster = new FakeCluster();
  const pages = await WsGateway.start(cluster, DIST);
  let gateway = await WsGateway.start(cluster);
  const { port, url } = gateway;
  cluster.now = Date.now();
  cluster.say("bob", "alice", "before");
  const claims = Buffer.from(JSON.stringify({ sub: "alice", app: "demo" })).toString("base64url");
  const context = await browser.newContext({ viewport: { width: 1100, height: 780 } });
  const said = () => cluster.log("alice", "bob").map((event) => String(event.body?.value.content?.kind?.value));
  const sends = () => cluster.requests.filter((request) => request.$case === "send").length;
  try {
    const tabs = [await context.newPage(), await context.newPage()] as const;
    for (const tab of tabs) {
      tab.setDefaultTimeout(10_000);
      await tab.goto(`http://127.0.0.1:${pages.port}/#token=x.${claims}.y&gateways=${url}`);
      await tab.locator("[data-peer=bob]").getByRole("button").click();
      await tab.locator(".message", { hasText: "before" }).waitFor();
    }
    await gateway.stop();
    for (const [index, tab] of tabs.entries()) {
      await tab.locator(".banner", { hasText: "Connection lost" }).waitFor();
      await tab.getByLabel("Message to bob").fill(`from tab ${index + 1}`);
      await tab.getByRole("button", { name: "Send", exact: true }).click();
      const row = tab.locator(".message", { hasText: `from tab ${index + 1}` });
      await row.getByRole("img", { name: "Sending" }).waitFor();
    }
    await tabs[1].evaluate(unsentRows(2));
    await tabs[0].close();
    gateway = await WsGateway.start(cluster, undefined, port);
    for (const text of ["from tab 1", "from tab 2"]) {
      await tabs[1].locator(".message", { hasText: text }).getByRole("img", { name: "Stored" }).waitFor();
    }
    assert.deepEqual(said().sort(), ["before", "from tab 1", "from tab 2"]);
    assert.equal(sends(), 2, "nobody else sent them");
  } finally {
    await context.close();
    await Promise.all([pages.stop(), gateway.stop()]);
  }
});

test("a token in the address is gone from it at once, and a reload, another log-in and going back work all the same", async () => {
  const cluster = new FakeCluster();
  cluster.now = Date.now();
  cluster.say("bob", "alice", "for alice");
  cluster.say("bob", "carol", "for carol");
  const gateway = await WsGateway.start(cluster, DIST);
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(10_000);
  const bare = `http://127.0.0.1:${gateway.port}/`;
  const shows = async (text: string): Promise<void> => {
    await page.locator("[data-peer=bob]", { hasText: text }).waitFor();
    assert.equal(page.url(), bare);
  };
  try {
    await page.goto(address(gateway, "alice"));
    await shows("for alice");
    await page.reload();
    await shows("for alice");
    // In the same tab: only the fragment changes, and the page is not loaded anew.
    await page.goto(address(gateway, "carol"));
    await shows("for carol");
    await page.goBack();
    await page.reload();
    await shows("for carol");
    // Another tab does not have it.
    const other = await page.context().newPage();
    await other.goto(bare);
    await other.getByLabel("Token").waitFor();
  } finally {
    await page.context().close();
    await gateway.stop();
  }
});
