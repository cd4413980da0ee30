// Time, behind a seam: tests stop it, and mini-programs can bring their own.

/** Time and timers. */
export interface Clock {
  /** Milliseconds since 1970 UTC. */
  now(): number;
  /** Milliseconds since any moment: goes on when the clock is set. Default: `now`, as far as that goes forward. */
  monotonic?(): number;
  /** Runs `task` once, `ms` from now. */
  setTimer(task: () => void, ms: number): Timer;
  clearTimer(timer: Timer): void;
}

/** A handle of the clock that made it. */
export type Timer = unknown;

declare const performance: { now?(): number } | undefined;
declare function setTimeout(task: () => void, ms: number): unknown;
declare function clearTimeout(timer: unknown): void;

/** The platform's own time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  ...(typeof performance !== "undefined" && typeof performance.now === "function"
    ? { monotonic: () => (performance as { now(): number }).now() }
    : {}),
  setTimer: (task, ms) => setTimeout(task, ms),
  clearTimer: (timer) => clearTimeout(timer),
};

/** Time for lengths, which never goes back. */
export function stopwatch(clock: Clock): () => number {
  if (clock.monotonic !== undefined) return () => clock.monotonic?.() ?? 0;
  let [last, passed] = [clock.now(), 0];
  return () => {
    const now = clock.now();
    passed += Math.max(0, now - last);
    last = now;
    return passed;
  };
}

/** The cluster's time, as far as it is known. */
export class ClusterTime {
  readonly #clock: Clock;
  readonly #passed: () => number;
  #learned: { readonly timeMs: number; readonly at: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#passed = stopwatch(clock);
  }

  /** The cluster says what time it is. */
  learn(timeMs: number): void {
    this.#learned = { timeMs, at: this.#passed() };
  }

  /** That of this device before the cluster has said it. */
  now(): number {
    if (this.#learned === undefined) return this.#clock.now();
    return Math.floor(this.#learned.timeMs + this.#passed() - this.#learned.at);
  }
}

/** One timer that is set again and again; setting it stops the one before. */
export class Alarm {
  readonly #clock: Clock;
  #timer: Timer;
  #set = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** True between `start` and the run or `stop`. */
  get running(): boolean {
    return this.#set;
  }

  start(ms: number, task: () => void): void {
    this.stop();
    this.#set = true;
    this.#timer = this.#clock.setTimer(() => {
      this.#set = false;
      task();
    }, ms);
  }

  stop(): void {
    if (!this.#set) return;
    this.#set = false;
    this.#clock.clearTimer(this.#timer);
  }
}
