// Which events are kept, and which of them go when there are too many: the oldest. Pure; the rows themselves are in the
// store, and what has to be known of each is in its key.
import { idPart } from "./text.js";

/** An event that is kept. */
interface Kept {
  readonly key: string;
  readonly seq: number;
  readonly timeMs: number;
  readonly bytes: number;
}

/** Part of what is allowed that is left after a clearance: one clears out seldom, and then much. */
const LEFT = 0.9;

export class Shelf {
  readonly #bytesMax: number;
  /** Conversation → its events by ascending seq. */
  readonly #events = new Map<string, Kept[]>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** About what is kept, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes in what a key of an earlier run says; false if it is no such key. `conversation` stands in it as `idPart`. */
  restore(key: string): boolean {
    const parts = key.split("/");
    const [, conversation = "", ...numbers] = parts;
    const [seq = Number.NaN, timeMs = Number.NaN, bytes = Number.NaN] = numbers.map(Number);
    if (parts.length !== 5 || ![seq, timeMs, bytes].every(Number.isSafeInteger)) return false;
    this.#insert(conversation, { key, seq, timeMs, bytes });
    return true;
  }

  /** The key for an event with a row of so many bytes; undefined if it is kept already. */
  add(event: { conversationId: string; seq: number; timeMs: number }, bytes: number): string | undefined {
    const { seq, timeMs } = event;
    const conversation = idPart(event.conversationId);
    const key = `e/${conversation}/${seq}/${timeMs}/${bytes}`;
    return this.#insert(conversation, { key, seq, timeMs, bytes }) ? key : undefined;
  }

  /** Keys of the events right below `before`, without a gap, `limit` at most; the newest first. */
  below(conversationId: string, before: number, limit: number): string[] {
    const events = this.#events.get(idPart(conversationId)) ?? [];
    const keys: string[] = [];
    let at = position(events, before) - 1;
    for (let seq = before - 1; keys.length < limit; seq -= 1, at -= 1) {
      const kept = events[at];
      if (kept?.seq !== seq) break;
      keys.push(kept.key);
    }
    return keys;
  }

  /** Keys of all events of a conversation. */
  all(conversationId: string): string[] {
    return (this.#events.get(idPart(conversationId)) ?? []).map((kept) => kept.key);
  }

  remove(key: string): void {
    const [, conversation = "", seq] = key.split("/");
    const events = this.#events.get(conversation) ?? [];
    const at = position(events, Number(seq));
    const kept = events[at];
    if (kept?.key !== key) return;
    events.splice(at, 1);
    this.#bytes -= sizeOf(kept);
    if (events.length === 0) this.#events.delete(conversation);
  }

  /** What is there by now: other clients on the same store write and delete, too. */
  reload(keys: Iterable<string>): void {
    this.#events.clear();
    this.#bytes = 0;
    for (const key of keys) this.restore(key);
  }

  /** Takes the oldest away until there is room, if there is too much. */
  clear(): string[] {
    return this.#bytes <= this.#bytesMax ? [] : this.#clear(this.#bytesMax * LEFT);
  }

  /** Takes the older half away. */
  halve(): string[] {
    return this.#clear(this.#bytes / 2);
  }

  #clear(left: number): string[] {
    const all: Kept[] = [];
    for (const events of this.#events.values()) all.push(...events);
    all.sort((a, b) => a.timeMs - b.timeMs || a.seq - b.seq);
    const gone: string[] = [];
    for (const { key } of all) {
      if (this.#bytes <= left) break;
      this.remove(key);
      gone.push(key);
    }
    return gone;
  }

  #insert(conversation: string, kept: Kept): boolean {
    const events = this.#events.get(conversation) ?? [];
    const at = position(events, kept.seq);
    if (events[at]?.seq === kept.seq) return false;
    events.splice(at, 0, kept);
    this.#events.set(conversation, events);
    this.#bytes += sizeOf(kept);
    return true;
  }
}

function sizeOf(kept: Kept): number {
  return kept.key.length + kept.bytes;
}

/** Where `seq` is or would be. */
function position(events: readonly Kept[], seq: number): number {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((events[middle]?.seq ?? 0) < seq) low = middle + 1;
    else high = middle;
  }
  return low;
}
