// Puts the events of one conversation in order, each once. Pure: no time, no network.
import type { ConversationEvent } from "../model.js";

/** One conversation's position, and what came too early. */
export class Sequence {
  readonly conversationId: string;
  readonly #heldMax: number;
  readonly #held = new Map<number, ConversationEvent>();
  #next: number;
  #target = 0;

  constructor(conversationId: string, next: number, heldMax: number) {
    this.conversationId = conversationId;
    this.#next = next;
    this.#heldMax = heldMax;
  }

  /** The seq that comes next. */
  get next(): number {
    return this.#next;
  }

  /** The newest seq that is known to exist. */
  get target(): number {
    return this.#target;
  }

  /** Something between what was handed out and the newest is missing. */
  get behind(): boolean {
    return this.#next <= this.#target;
  }

  /** The conversation reaches at least to `seq`. */
  expect(seq: number): void {
    this.#target = Math.max(this.#target, seq);
  }

  /** Returns what can be handed out now, in order. */
  accept(event: ConversationEvent): ConversationEvent[] {
    this.expect(event.seq);
    if (event.seq < this.#next) return [];
    this.#held.set(event.seq, event);
    const ready = this.#take();
    // The farthest gives way: the fetch that fills the gap brings it again.
    if (this.#held.size > this.#heldMax) this.#held.delete(Math.max(...this.#held.keys()));
    return ready;
  }

  /** Everything before `seq` is gone for good. Returns what can be handed out now. */
  skipTo(seq: number): ConversationEvent[] {
    for (const held of [...this.#held.keys()]) if (held < seq) this.#held.delete(held);
    this.#next = Math.max(this.#next, seq);
    return this.#take();
  }

  #take(): ConversationEvent[] {
    const ready: ConversationEvent[] = [];
    for (;;) {
      const event = this.#held.get(this.#next);
      if (event === undefined) return ready;
      this.#held.delete(this.#next);
      this.#next += 1;
      ready.push(event);
    }
  }
}
