// Puts the events of one conversation in order, each once. Pure: no time, no network.
import type { ConversationEvent } from "../model.js";
import type { HeldBytes } from "./held.js";

/** One conversation's position, and what came too early. */
export class Sequence {
  readonly conversationId: string;
  readonly #heldMax: number;
  readonly #bytes: HeldBytes;
  readonly #held = new Map<number, ConversationEvent>();
  #next: number;
  #target = 0;

  constructor(conversationId: string, next: number, heldMax: number, bytes: HeldBytes) {
    this.conversationId = conversationId;
    this.#next = next;
    this.#heldMax = heldMax;
    this.#bytes = bytes;
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
    if (!this.#held.has(event.seq)) this.#hold(event);
    const ready = this.#take();
    // The farthest gives way: the fetch that fills the gap brings it again.
    while (this.#held.size > 0 && (this.#held.size > this.#heldMax || this.#bytes.over)) {
      this.#release(Math.max(...this.#held.keys()));
    }
    return ready;
  }

  /** Everything before `seq` is gone for good. Returns what can be handed out now. */
  skipTo(seq: number): ConversationEvent[] {
    for (const held of [...this.#held.keys()]) if (held < seq) this.#release(held);
    this.#next = Math.max(this.#next, seq);
    return this.#take();
  }

  #take(): ConversationEvent[] {
    const ready: ConversationEvent[] = [];
    for (;;) {
      const event = this.#release(this.#next);
      if (event === undefined) return ready;
      this.#next += 1;
      ready.push(event);
    }
  }

  #hold(event: ConversationEvent): void {
    this.#held.set(event.seq, event);
    this.#bytes.add(event);
  }

  #release(seq: number): ConversationEvent | undefined {
    const event = this.#held.get(seq);
    if (event === undefined) return undefined;
    this.#held.delete(seq);
    this.#bytes.remove(event);
    return event;
  }
}
