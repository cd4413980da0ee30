// What the app says when it sends, and what becomes of it.
import type { CancelSignal } from "./cancel.js";
import { RequestError } from "./errors.js";
import { jsonData } from "./json.js";
import type { Content, Target } from "./model.js";

/** A number that an app gives a meaning: 32 bits without a sign. */
const CUSTOM_TYPE_MAX = 0xffff_ffff;

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

/** Nothing but the target. Throws where an app without types gave something else. */
export function targetOf(options: Target): Target {
  if ("to" in options) {
    demand(typeof options.to === "string", "to must be a text", "target");
    return { to: options.to };
  }
  demand(typeof options.conversationId === "string", "to or conversationId must be given", "target");
  return { conversationId: options.conversationId };
}

/** What to say; throws as above. */
export function contentOf(said: Said): Content {
  if ("text" in said) {
    demand(typeof said.text === "string", "text must be a text", "content");
    return { type: "text", text: said.text };
  }
  const { customType } = said;
  demand(Number.isSafeInteger(customType), "text, or customType with data or json, must be given", "content");
  const holds = customType >= 0 && customType <= CUSTOM_TYPE_MAX;
  demand(holds, `customType must be from 0 to ${CUSTOM_TYPE_MAX}`, "content");
  const data = "json" in said ? jsonData(said.json) : said.data;
  demand(Object.prototype.toString.call(data) === "[object Uint8Array]", "data must be a Uint8Array", "content");
  return { type: "custom", customType, data };
}

function demand(holds: boolean, message: string, field: string): void {
  if (!holds) throw new RequestError("invalid_argument", message, { field });
}
