// What the app says when it sends, and what becomes of it.
import type { CancelSignal } from "./cancel.js";
import { jsonData } from "./json.js";
import type { Content, Target } from "./model.js";

/** What to say: text, or the app's own bytes or JSON under a number that the app gives a meaning. */
export type Said =
  | { readonly text: string }
  | { readonly customType: number; readonly data: Uint8Array }
  | { readonly customType: number; readonly json: unknown };

/** A message to send. */
export type SendOptions = Target &
  Said & {
    /** Give the id of a failed send to retry it: it is stored once at most. Default: a fresh one. */
    readonly clientMessageId?: string;
    readonly signal?: CancelSignal;
  };

/** Nothing but the target. */
export function targetOf(options: Target): Target {
  return "to" in options ? { to: options.to } : { conversationId: options.conversationId };
}

export function contentOf(said: Said): Content {
  if ("text" in said) return { type: "text", text: said.text };
  const data = "json" in said ? jsonData(said.json) : said.data;
  return { type: "custom", customType: said.customType, data };
}
