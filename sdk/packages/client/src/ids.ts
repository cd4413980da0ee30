// Conversation ids. Their forms are part of the protocol: `d:<bytes of first user>:<first user>:<second user>` with the
// users in the order of their bytes, `g:<id>` for a group, `r:<id>` for a room.
import { compareBytes, encodeUtf8 } from "./utf8.js";

/** The id of the direct conversation of two users, the same from both sides. */
export function directConversationId(a: string, b: string): string {
  const [first, second] = compareBytes(a, b) < 0 ? [a, b] : [b, a];
  return `d:${encodeUtf8(first).length}:${first}:${second}`;
}
