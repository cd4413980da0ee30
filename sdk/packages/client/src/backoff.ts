// Exponential back-off with full jitter: many clients that lost the same gateway must not come back in step.
import { fraction, type RandomSource } from "./random.js";

/** Bounds of the waits between attempts. */
export interface BackoffOptions {
  /** The first wait is random between 0 and this. Default: 500. */
  readonly baseMs: number;
  /** No wait is longer. Default: 20,000. */
  readonly maxMs: number;
}

/** Waits that double in their upper bound until `reset`. */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: RandomSource;
  #attempt = 0;

  constructor(options: BackoffOptions, random: RandomSource) {
    this.#options = options;
    this.#random = random;
  }

  /** Milliseconds to wait before the next attempt, at least `atLeastMs`. */
  next(atLeastMs = 0): number {
    const bound = Math.min(this.#options.maxMs, this.#options.baseMs * 2 ** Math.min(this.#attempt, 20));
    this.#attempt += 1;
    return atLeastMs + Math.floor(fraction(this.#random) * bound);
  }

  reset(): void {
    this.#attempt = 0;
  }
}
