// A line from a gateway to a client that is slow, far and sometimes stands still: the same on each run.
import type { FakeClock } from "./fake-time.js";

export interface LineOptions {
  readonly bytesPerSecond: number;
  readonly roundTripMs: number;
  /** So many of 100 pieces of 1 KiB stand still for `stallMs` first. */
  readonly stallPercent: number;
  readonly stallMs: number;
  /** The client's transport can tell what came in of a frame that has not ended. */
  readonly tells: boolean;
}

/** What a gateway holds for one client, in bytes. */
const QUEUE_BYTES_MAX = 1024 * 1024;
/** In that time one frame must be written. */
const WRITE_TIMEOUT_MS = 20_000;
const PIECE = 1024;

/** When a gateway gives up a client. */
export type TooSlow = "queue" | "write";

export class SlowLine {
  readonly #clock: FakeClock;
  readonly #options: LineOptions;
  /** When what waits has passed; the line is busy until then. */
  #freeAt = 0;
  #waiting = 0;
  #received = 0;
  #pieces = 0;
  /** Frame by frame, the most that was under way at one moment. */
  waitingMost = 0;

  constructor(clock: FakeClock, options: LineOptions) {
    this.#clock = clock;
    this.#options = options;
  }

  /** To the client; `tooSlow` when the gateway would not wait so long. */
  down(bytes: Uint8Array, arrived: () => void, tooSlow: (why: TooSlow) => void): void {
    const now = this.#clock.now();
    this.#waiting += bytes.length;
    this.waitingMost = Math.max(this.waitingMost, this.#waiting);
    if (this.#waiting > QUEUE_BYTES_MAX) return tooSlow("queue");
    const begins = Math.max(this.#freeAt, now);
    let at = begins;
    for (let left = bytes.length; left > 0; left -= PIECE) {
      const piece = Math.min(PIECE, left);
      at += this.#passes(piece);
      this.#clock.setTimer(() => {
        this.#received += piece;
      }, at - now);
    }
    this.#freeAt = at;
    const half = this.#options.roundTripMs / 2;
    if (at - begins > WRITE_TIMEOUT_MS) {
      this.#clock.setTimer(() => tooSlow("write"), begins + WRITE_TIMEOUT_MS - now);
      return;
    }
    this.#clock.setTimer(
      () => {
        this.#waiting -= bytes.length;
        arrived();
      },
      at + half - now,
    );
  }

  /** From the client: what it says is short. */
  up(arrived: () => void): void {
    this.#clock.setTimer(arrived, this.#options.roundTripMs / 2);
  }

  received(): number | undefined {
    return this.#options.tells ? this.#received : undefined;
  }

  #passes(bytes: number): number {
    const { bytesPerSecond, stallPercent, stallMs } = this.#options;
    this.#pieces += 1;
    // Spread evenly: 37 has no divisor in common with 100.
    const stalls = (this.#pieces * 37) % 100 < stallPercent;
    return (bytes * 1_000) / bytesPerSecond + (stalls ? stallMs : 0);
  }
}
