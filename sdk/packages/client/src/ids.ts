// Conversation ids. The form is part of the protocol.
import { compareBytes, encodeUtf8 } from "./utf8.js";

/** The id of the direct conversation of two users, the same from both sides. */
export function directConversationId(a: string, b: string): string {
  const [first, second] = compareBytes(a, b) < 0 ? [a, b] : [b, a];
  return `d:${encodeUtf8(first).length}:${first}:${second}`;
}
