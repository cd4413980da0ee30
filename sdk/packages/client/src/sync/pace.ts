// How much is asked for at a time. A line that is slow gets one small page after the other, so that whatever else is
// said on it comes through in between and nobody takes the client for dead; a quick one gets several large ones at once.

/** Pages never get larger: what a gateway answers at most, in bytes. */
const BYTES_MOST = 64 * 1024;
/** Pages never get smaller; a larger event comes all the same. */
const BYTES_LEAST = 4 * 1024;
/** Pages that are awaited at the same time, on a quick line. */
const PARALLEL_MOST = 4;
/** Bytes that are awaited at the same time, on a quick line. */
const WINDOW_MOST = PARALLEL_MOST * BYTES_MOST;
/** A page that took no longer says that there is room for more. */
const QUICK_MS = 1_000;
/** A page that took longer was too large. */
const SLOW_MS = 5_000;

export class Pace {
  /** Time that never goes back. */
  readonly #passed: () => number;
  /** Bytes that may be awaited, over all pages. */
  #window = BYTES_MOST;
  #parallel = 1;
  #changedAt = 0;

  constructor(passed: () => number) {
    this.#passed = passed;
  }

  /** Bytes of a page. */
  get bytes(): number {
    return Math.min(BYTES_MOST, Math.max(BYTES_LEAST, Math.floor(this.#window / this.#parallel)));
  }

  /** Pages to await at the same time. */
  get parallel(): number {
    return this.#parallel;
  }

  /** A page is asked for: what to say when it comes. */
  asked(): number {
    return this.#passed();
  }

  /** A page of about so many bytes came that was `asked` for then. */
  answered(bytes: number, asked: number): void {
    // What was asked for before the last change says nothing of the change.
    if (asked < this.#changedAt) return;
    const took = this.#passed() - asked;
    if (took > SLOW_MS) return this.slow();
    if (took > QUICK_MS) {
      this.#parallel = 1;
      return;
    }
    // Short ones that came quickly say how far the gateway is, not what the line carries.
    if (bytes >= this.bytes / 2) this.#window = Math.min(WINDOW_MOST, this.#window * 2);
    this.#parallel = Math.min(PARALLEL_MOST, this.#parallel + 1);
  }

  /** A page is overdue, or its connection broke. */
  slow(): void {
    this.#window = Math.max(BYTES_LEAST, this.#window / 2);
    this.#parallel = 1;
    this.#changedAt = this.#passed();
  }
}
