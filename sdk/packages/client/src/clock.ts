// Time, behind a seam: tests stop it, and mini-programs can bring their own.

/** Time and timers. */
export interface Clock {
  /** Milliseconds since 1970 UTC. */
  now(): number;
  /** Runs `task` once, `ms` from now. */
  setTimer(task: () => void, ms: number): Timer;
  clearTimer(timer: Timer): void;
}

/** A handle of the clock that made it. */
export type Timer = unknown;

declare function setTimeout(task: () => void, ms: number): unknown;
declare function clearTimeout(timer: unknown): void;

/** The platform's own time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  setTimer: (task, ms) => setTimeout(task, ms),
  clearTimer: (timer) => clearTimeout(timer),
};

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
