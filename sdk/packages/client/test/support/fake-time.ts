// Time that stands still until a test moves it.
import type { Clock, Timer } from "../../src/index.js";

/** Lets everything that waits for resolved promises run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

export class FakeClock implements Clock {
  #now = 1_000;
  #set = 0;
  #count = 0;
  readonly #timers = new Map<number, { at: number; task: () => void }>();

  now(): number {
    return this.#now + this.#set;
  }

  monotonic(): number {
    return this.#now;
  }

  /** Somebody sets the clock: timers go on. */
  set(byMs: number): void {
    this.#set += byMs;
  }

  setTimer(task: () => void, ms: number): Timer {
    this.#count += 1;
    this.#timers.set(this.#count, { at: this.#now + ms, task });
    return this.#count;
  }

  clearTimer(timer: Timer): void {
    this.#timers.delete(timer as number);
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Runs what is due, in order, with promises settled in between. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, t]) => t.at <= end).sort(([i, a], [j, b]) => a.at - b.at || i - j)[0];
      if (due === undefined) break;
      const [id, { at, task }] = due;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, at);
      task();
      await settle();
    }
    this.#now = end;
    await settle();
  }
}
