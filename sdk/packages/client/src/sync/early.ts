// Pushes that come before the first list has said where their conversations begin.
import type { ConversationEvent } from "../model.js";
import type { HeldBytes } from "./held.js";

const EARLY_MAX = 1_000;

export class Early {
  readonly #bytes: HeldBytes;
  #events: ConversationEvent[] = [];

  constructor(bytes: HeldBytes) {
    this.#bytes = bytes;
  }

  /** False when there is no room: a later list shows it. */
  keep(event: ConversationEvent): boolean {
    if (this.#events.length >= EARLY_MAX || this.#bytes.over) return false;
    this.#bytes.add(event);
    this.#events.push(event);
    return true;
  }

  /** Takes those of one conversation, or all. */
  take(conversationId?: string): ConversationEvent[] {
    const wanted = (event: ConversationEvent): boolean =>
      conversationId === undefined || event.conversationId === conversationId;
    const taken = this.#events.filter(wanted);
    this.#events = this.#events.filter((event) => !wanted(event));
    for (const event of taken) this.#bytes.remove(event);
    return taken;
  }
}
