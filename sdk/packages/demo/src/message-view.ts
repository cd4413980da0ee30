// One message as an element.
import type { ConversationEvent } from "@parlance/client";
import { element, setText } from "./dom.js";
import { timeOf } from "./format.js";
import type { Pending, Thread } from "./thread.js";

/** How far an own message got. */
export type Delivery = "sending" | "stored" | "read" | "failed";

const TICKS: Readonly<Record<Delivery, { sign: string; label: string }>> = {
  sending: { sign: "◷", label: "Sending" },
  stored: { sign: "✓", label: "Stored" },
  read: { sign: "✓✓", label: "Read" },
  failed: { sign: "!", label: "Not sent" },
};

export function textOf(event: ConversationEvent): string {
  if (event.type !== "message") return "Something that this page cannot show";
  if (event.content.type === "text") return event.content.text;
  return event.content.type === "custom" ? `Custom content, ${event.content.data.length} bytes` : "Unknown content";
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

/** An own message on its way, or one that failed. */
export function pendingMessage(item: Pending, thread: Thread): HTMLElement {
  const failed = item.problem !== "";
  const children = bubble(item.text, item.timeMs, "You", makeTick(failed ? "failed" : "sending"));
  const retry = element("button", { type: "button", on: { click: () => thread.retry(item) } }, "Send again");
  const discard = element("button", { type: "button", on: { click: () => thread.discard(item) } }, "Discard");
  const problem = element("span", { class: "failure", role: "alert" }, `Not sent: ${item.problem}. `, retry, discard);
  return element("li", { class: `message own ${failed ? "failed" : "sending"}` }, ...children, failed && problem);
}
