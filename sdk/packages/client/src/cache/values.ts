// What rows say: events, letters and conversations as JSON values, and back. What is read was sealed by this library,
// perhaps by another version of it: a value of another shape reads as undefined.
import { base64Decode, base64Encode } from "@bufbuild/protobuf/wire";
import type { Content, Conversation, ConversationMessage, PendingMessage, Target } from "../model.js";
import { cutUtf8 } from "../utf8.js";

type Value = readonly unknown[];

/** What is kept of a conversation's last event, in bytes of content: as much as a gateway's list shows. */
const PREVIEW_BYTES = 2 * 1024;

/** None for content that is newer than this library: a newer one will want to read it itself. */
export function fromContent(content: Content): Value | undefined {
  if (content.type === "text") return ["t", content.text];
  if (content.type === "custom") return ["c", content.customType, base64Encode(content.data)];
  return undefined;
}

function toContent(value: unknown): Content | undefined {
  if (!Array.isArray(value)) return undefined;
  const [kind, first, second] = value as Value;
  if (kind === "t" && typeof first === "string") return { type: "text", text: first };
  if (kind !== "c" || typeof first !== "number" || typeof second !== "string") return undefined;
  return { type: "custom", customType: first, data: base64Decode(second) };
}

export function fromMessage(message: ConversationMessage): Value | undefined {
  const { conversationId, seq, timeMs, sender, clientMessageId } = message;
  const content = fromContent(message.content);
  return content && [conversationId, seq, timeMs, sender, clientMessageId, content];
}

export function toMessage(value: unknown): ConversationMessage | undefined {
  if (!Array.isArray(value)) return undefined;
  const [conversationId, seq, timeMs, sender, clientMessageId, said] = value as Value;
  const content = toContent(said);
  if (content === undefined || typeof conversationId !== "string" || typeof seq !== "number") return undefined;
  if (typeof timeMs !== "number" || typeof sender !== "string" || typeof clientMessageId !== "string") return undefined;
  return { type: "message", conversationId, seq, timeMs, sender, clientMessageId, content };
}

export function fromPending(message: PendingMessage): Value {
  const { target, clientMessageId, timeMs, left } = message;
  const where = "to" in target ? ["u", target.to] : ["c", target.conversationId];
  return [...where, clientMessageId, timeMs, fromContent(message.content), left];
}

export function toPending(value: unknown): PendingMessage | undefined {
  if (!Array.isArray(value)) return undefined;
  const [kind, id, clientMessageId, timeMs, said, left] = value as Value;
  const content = toContent(said);
  if (content === undefined || typeof id !== "string" || typeof clientMessageId !== "string") return undefined;
  if (typeof timeMs !== "number" || typeof left !== "boolean") return undefined;
  const target: Target = kind === "u" ? { to: id } : { conversationId: id };
  return { target, clientMessageId, timeMs, content, left };
}

export function fromConversation(conversation: Conversation): Value {
  const { conversationId, kind, peer, headSeq, readSeq, peerReadSeq, unreadCount, lastEvent } = conversation;
  const last = lastEvent?.type === "message" ? fromMessage(preview(lastEvent)) : undefined;
  return [conversationId, kind, peer, headSeq, readSeq, peerReadSeq, unreadCount, last ?? null];
}

/** Cut as a gateway cuts it: a text has its beginning, custom content no data. */
function preview(message: ConversationMessage): ConversationMessage {
  const { content } = message;
  if (content.type === "text")
    return { ...message, content: { ...content, text: cutUtf8(content.text, PREVIEW_BYTES) } };
  if (content.type !== "custom" || content.data.length <= PREVIEW_BYTES) return message;
  return { ...message, content: { ...content, data: new Uint8Array(0) } };
}

export function toConversation(value: unknown): Conversation | undefined {
  if (!Array.isArray(value)) return undefined;
  const [conversationId, kind, peer, headSeq, readSeq, peerReadSeq, unreadCount, last] = value as Value;
  if (typeof conversationId !== "string" || typeof peer !== "string") return undefined;
  if (typeof headSeq !== "number" || typeof readSeq !== "number") return undefined;
  if (typeof peerReadSeq !== "number" || typeof unreadCount !== "number") return undefined;
  const counts = { headSeq, readSeq, peerReadSeq, unreadCount, lastEvent: toMessage(last) };
  return { conversationId, kind: kind === "direct" ? "direct" : "unknown", peer, ...counts };
}
