// What is held back until its turn comes, over all conversations: bounded in bytes.
import type { ConversationEvent } from "../model.js";

/** What an event takes beside its content, in bytes: about right is enough. */
const OVERHEAD = 256;

export class HeldBytes {
  readonly #max: number;
  #used = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** More is held than may be: something has to go. */
  get over(): boolean {
    return this.#used > this.#max;
  }

  add(event: ConversationEvent): void {
    this.#used += sizeOf(event);
  }

  remove(event: ConversationEvent): void {
    this.#used -= sizeOf(event);
  }
}

/** About what an event takes in memory, in bytes. */
export function sizeOf(event: ConversationEvent): number {
  if (event.type !== "message") return OVERHEAD;
  const { content } = event;
  if (content.type === "text") return OVERHEAD + 2 * content.text.length;
  return OVERHEAD + (content.type === "custom" ? content.data.length : 0);
}
