// One message as an element.
import type { Content, ConversationEvent, ShownPending } from "@parlance/client";
import { element, setText } from "./dom.js";
import { timeOf } from "./format.js";

/** How far an own message got. */
export type Delivery = "sending" | "stored" | "read" | "failed";

const TICKS: Readonly<Record<Delivery, { sign: string; label: string }>> = {
  sending: { sign: "◷", label: "Sending" },
  stored: { sign: "✓", label: "Stored" },
  read: { sign: "✓✓", label: "Read" },
  failed: { sign: "!", label: "Not sent" },
};

export function textOf(event: ConversationEvent): string {
  return event.type === "message" ? wordsOf(event.content) : "Something that this page cannot show";
}

function wordsOf(content: Content): string {
  if (content.type === "text") return content.text;
  return content.type === "custom" ? `Custom content, ${content.data.length} bytes` : "Unknown content";
}

function bubble(text: string, timeMs: number, who: string, tick: HTMLElement | undefined): HTMLElement[] {
  const time = element("time", { datetime: new Date(timeMs).toISOString() }, timeOf(timeMs));
  const meta = element("span", { class: "meta" }, time, tick);
  return [element("span", { class: "sr" }, `${who}: `), element("span", { class: "text" }, text), meta];
}

function makeTick(delivery: Delivery): HTMLElement {
  const tick = element("span", { class: "tick", role: "img" });
  setTick(tick, delivery);
  return tick;
}

function setTick(tick: HTMLElement, delivery: Delivery): void {
  if (tick.dataset.delivery === delivery) return;
  const { sign, label } = TICKS[delivery];
  tick.dataset.delivery = delivery;
  setText(tick, sign);
  tick.setAttribute("aria-label", label);
  tick.title = label;
}

/** A stored message. */
export function storedMessage(event: ConversationEvent, own: boolean): HTMLElement {
  const tick = own ? makeTick("stored") : undefined;
  const children = bubble(textOf(event), event.timeMs, own ? "You" : event.sender, tick);
  return element("li", { class: `message ${own ? "own" : "theirs"}`, "data-seq": String(event.seq) }, ...children);
}

/** Marks an own stored message as read by the other. */
export function markRead(message: HTMLElement, read: boolean): void {
  const tick = message.querySelector<HTMLElement>(".tick");
  if (tick !== null) setTick(tick, read ? "read" : "stored");
}

/** What can be done with a message that failed. */
export interface FailedActions {
  retry(): void;
  discard(): void;
}

/** An own message on its way, or one that failed. */
export function pendingMessage(item: ShownPending, actions: FailedActions): HTMLElement {
  const { content, timeMs, error } = item;
  const failed = error !== undefined;
  const children = bubble(wordsOf(content), timeMs, "You", makeTick(failed ? "failed" : "sending"));
  const retry = element("button", { type: "button", on: { click: () => actions.retry() } }, "Send again");
  const discard = element("button", { type: "button", on: { click: () => actions.discard() } }, "Discard");
  const why = `Not sent: ${error?.message ?? ""}. `;
  const problem = element("span", { class: "failure", role: "alert" }, why, retry, discard);
  return element("li", { class: `message own ${failed ? "failed" : "sending"}` }, ...children, failed && problem);
}
