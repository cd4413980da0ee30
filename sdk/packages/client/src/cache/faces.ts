// Which conversations are kept as last shown: when there are too many, those go that were silent for longest.
interface Kept {
  readonly timeMs: number;
  readonly bytes: number;
}

/** Part of the bound that is left after a clearance. */
const LEFT = 0.9;

export class Faces {
  readonly #bytesMax: number;
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** A row is there, or is written: returns the keys of those that go. */
  add(key: string, timeMs: number, bytes: number): string[] {
    this.remove(key);
    this.#kept.set(key, { timeMs, bytes: key.length + bytes });
    this.#bytes += key.length + bytes;
    return this.#bytes > this.#bytesMax ? this.#clear(this.#bytesMax * LEFT) : [];
  }

  remove(key: string): void {
    this.#bytes -= this.#kept.get(key)?.bytes ?? 0;
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
