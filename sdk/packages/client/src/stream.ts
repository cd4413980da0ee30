// Events as an async iterator, for `for await`.
import type { CancelSignal } from "./cancel.js";
import { type ParlanceError, QueueFullError } from "./errors.js";

/** How to read events one after the other. */
export interface StreamOptions {
  /** Ends the loop. */
  readonly signal?: CancelSignal;
  /** Events that wait for a slow loop; when there are more, the loop ends with a QueueFullError. Default: 10,000. */
  readonly max?: number;
}

const MAX = 10_000;

/** Events that wait, and a loop that waits for them. */
export class EventStream<T> implements AsyncIterableIterator<T> {
  readonly #max: number;
  readonly #signal: CancelSignal | undefined;
  readonly #ended: () => void;
  readonly #waiting: T[] = [];
  #readers: { resolve(result: IteratorResult<T>): void; reject(error: unknown): void }[] = [];
  #done = false;
  #error: ParlanceError | undefined;

  /** `ended` is called once: no event is wanted any more. */
  constructor(options: StreamOptions, ended: () => void) {
    this.#max = options.max ?? MAX;
    this.#signal = options.signal;
    this.#ended = ended;
    this.#signal?.addEventListener("abort", this.end);
  }

  push(value: T): void {
    if (this.#done) return;
    const reader = this.#readers.shift();
    if (reader !== undefined) return reader.resolve({ done: false, value });
    if (this.#waiting.length < this.#max) {
      this.#waiting.push(value);
      return;
    }
    this.#error = new QueueFullError(`${this.#max} events wait to be read already`);
    this.end();
  }

  /** What waits is still read. */
  readonly end = (): void => {
    if (this.#done) return;
    this.#done = true;
    this.#signal?.removeEventListener("abort", this.end);
    for (const reader of this.#readers) reader.resolve({ done: true, value: undefined });
    this.#readers = [];
    this.#ended();
  };

  next(): Promise<IteratorResult<T>> {
    const [value] = this.#waiting;
    if (value !== undefined) {
      this.#waiting.shift();
      return Promise.resolve({ done: false, value });
    }
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#done) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<T>> {
    this.#waiting.length = 0;
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
