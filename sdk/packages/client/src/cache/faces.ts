// Which conversations are kept as last shown: when there are too many, those go that were silent for longest.
import { utf8Length } from "../utf8.js";
import { sumOf } from "./text.js";

interface Kept {
  readonly timeMs: number;
  readonly bytes: number;
  readonly sum: number;
}

/** Part of the bound that is left after a clearance. */
const LEFT = 0.9;

export class Faces {
  readonly #bytesMax: number;
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;
  #sum = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Over all rows that are kept, whatever their order: others have the same if they keep the same. */
  get sum(): number {
    return this.#sum;
  }

  /** A row is there, or is written: returns the keys of those that go. */
  add(key: string, timeMs: number, row: string): string[] {
    this.remove(key);
    const kept = { timeMs, bytes: key.length + utf8Length(row), sum: sumOf(`${key} ${row}`) };
    this.#kept.set(key, kept);
    this.#bytes += kept.bytes;
    this.#sum = (this.#sum + kept.sum) >>> 0;
    return this.#bytes > this.#bytesMax ? this.#clear(this.#bytesMax * LEFT) : [];
  }

  remove(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    this.#bytes -= kept.bytes;
    this.#sum = (this.#sum - kept.sum) >>> 0;
    this.#kept.delete(key);
  }

  /** Half of them go. */
  halve(): string[] {
    return this.#clear(this.#bytes / 2);
  }

  #clear(left: number): string[] {
    const oldest = [...this.#kept].sort(([, a], [, b]) => a.timeMs - b.timeMs);
    const gone: string[] = [];
    for (const [key] of oldest) {
      if (this.#bytes <= left) break;
      this.remove(key);
      gone.push(key);
    }
    return gone;
  }
}
