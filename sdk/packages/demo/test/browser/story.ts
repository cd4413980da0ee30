// The story that the page must live through: two people in two windows of one browser.
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Locator, type Page } from "playwright-core";

/** Two people's ready addresses of the page. */
export interface Setting {
  readonly alice: string;
  readonly bob: string;
  /** Breaks alice's connection and lets her make no other, where the setting can; returns what ends that. */
  readonly cut?: () => Promise<() => Promise<void>>;
}

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}

async function openPage(browser: Browser, url: string, problems: string[], width = 1100): Promise<Page> {
  const context = await browser.newContext({ viewport: { width, height: 780 } });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    // A refused connection is logged by the browser itself, and part of the story.
    if (message.type() === "error" && !/WebSocket connection/.test(message.text())) problems.push(message.text());
  });
  await page.goto(url);
  return page;
}

async function chatWith(page: Page, peer: string): Promise<void> {
  await page.getByLabel("User id of somebody to chat with").fill(peer);
  await page.getByRole("button", { name: "Chat", exact: true }).click();
}

async function say(page: Page, text: string): Promise<void> {
  const field = page.getByLabel(/^Message to /);
  await field.fill(text);
  await field.press("Enter");
}

function message(page: Page, text: string): Locator {
  return page.locator(".message", { hasText: text });
}

async function waitForTick(page: Page, text: string, tick: string): Promise<void> {
  await message(page, text).getByRole("img", { name: tick }).waitFor();
}

/** Runs the story; returns the folder with the screenshots. */
export async function chat(browser: Browser, setting: Setting): Promise<string> {
  const shots = mkdtempSync(join(tmpdir(), "parlance-page-"));
  const problems: string[] = [];
  const alice = await openPage(browser, setting.alice, problems);
  const bob = await openPage(browser, setting.bob, problems, 390);
  const stamp = Date.now().toString(36);
  const text = (words: string): string => `${words} (${stamp})`;

  // Both ways; the first message makes the conversation appear at the other side, unread.
  await chatWith(alice, "bob");
  await say(alice, text("Hello Bob"));
  await waitForTick(alice, text("Hello Bob"), "Stored");
  const row = bob.locator("[data-peer=alice]");
  await row.locator(".badge").waitFor();
  assert.match((await row.locator(".badge").getAttribute("aria-label")) ?? "", /^[1-9]\d* unread$/);
  assert.match(await bob.title(), /^\([1-9]\d*\) bob/);
  await bob.screenshot({ path: join(shots, "phone-unread.png") });

  // Opening it reads it: the badge goes, and the sender's tick changes.
  await row.getByRole("button").click();
  await message(bob, text("Hello Bob")).waitFor();
  await waitForTick(alice, text("Hello Bob"), "Read");
  await say(bob, text("Hi Alice, all well? 🙂"));
  await message(alice, text("Hi Alice, all well? 🙂")).waitFor();
  await waitForTick(bob, text("Hi Alice, all well? 🙂"), "Read");
  await bob.screenshot({ path: join(shots, "phone-chat.png") });
  await bob.getByRole("button", { name: "Back to conversations" }).click();
  await row.locator(".badge").waitFor({ state: "hidden" });

  // Several in a row stay in order, and are counted while the list is shown.
  const words = ["one", "two", "three", "four", "five"].map(text);
  for (const word of words) await say(alice, word);
  await waitForTick(alice, words[4] ?? "", "Stored");
  await bob.locator("[data-peer=alice] .badge", { hasText: "5" }).waitFor();
  await row.getByRole("button").click();
  await waitForTick(alice, words[4] ?? "", "Read");
  const seen = await bob.locator(".message.theirs .text").allTextContents();
  assert.deepEqual(seen.slice(-5), words);
  await alice.screenshot({ path: join(shots, "desktop-chat.png") });

  // Reloading shows the history.
  await alice.reload();
  await alice.locator("[data-peer=bob]").getByRole("button").click();
  await message(alice, text("Hello Bob")).waitFor();
  await waitForTick(alice, words[4] ?? "", "Read");

  if (setting.cut !== undefined) {
    const mend = await setting.cut();
    await alice.locator(".banner", { hasText: "Connection lost" }).waitFor();
    await alice.screenshot({ path: join(shots, "desktop-reconnecting.png") });
    await say(alice, text("while away"));
    await message(alice, text("while away")).getByRole("img", { name: "Sending" }).waitFor();
    await mend();
    await message(bob, text("while away")).waitFor();
    await waitForTick(alice, text("while away"), "Read");
    await alice.locator(".banner").waitFor({ state: "hidden" });
  }
  await alice.emulateMedia({ colorScheme: "dark" });
  await alice.screenshot({ path: join(shots, "desktop-dark.png") });
  assert.deepEqual(problems, []);
  return shots;
}
