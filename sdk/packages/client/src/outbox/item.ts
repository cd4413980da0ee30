// One message on its way, and what can be said of it.
import type { Alarm } from "../clock.js";
import { type ParlanceError, RequestError } from "../errors.js";
import { directConversationId } from "../ids.js";
import type { Content, PendingMessage, SendResult } from "../model.js";
import { utf8Length } from "../utf8.js";

/** One message to send. */
export interface Item extends PendingMessage {
  timeMs: number;
  left: boolean;
  /** An earlier run left it: it goes before those of this one. */
  readonly restored: boolean;
  readonly deadline: Alarm;
  /** It is on its way, perhaps although it timed out here. */
  posted: boolean;
  done: boolean;
  /** Why the last try failed. */
  error: ParlanceError | undefined;
  resolve(result: SendResult): void;
  reject(error: ParlanceError): void;
  /** Rejects, and what is remembered of it stays. */
  tell(error: ParlanceError): void;
}

/** What the app may see of it. */
export function plain(item: Item): PendingMessage {
  const { target, clientMessageId, content, timeMs, left } = item;
  return { target, clientMessageId, content, timeMs, left };
}

/** The conversation that it belongs to. */
export function conversationOf(pending: PendingMessage, userId: string): string {
  const { target } = pending;
  return "to" in target ? directConversationId(userId, target.to) : target.conversationId;
}

/** What a gateway would refuse. */
export function contentProblem(content: Content, bytesMax: number): RequestError | undefined {
  const bytes =
    content.type === "text" ? utf8Length(content.text) : content.type === "custom" ? content.data.length : 0;
  if (bytes <= bytesMax) return undefined;
  const message = `the content has ${bytes} bytes, ${bytesMax} are allowed`;
  return new RequestError("payload_too_large", message, { field: "send.content" });
}
