// Finds connections that are dead without a word, and keeps the gateway from thinking so of us.
import { Alarm, type Clock } from "./clock.js";

/** What a heartbeat needs from its connection. */
export interface Heart {
  ping(): void;
  /** Nothing came since the last ping. */
  dead(): void;
  /** Bytes that came in so far, those of unfinished frames too; undefined where the transport cannot tell. */
  received(): number | undefined;
  /** An answer is awaited that can be large: it may be coming in, unseen, on a slow line. */
  busy(): boolean;
}

/** So many time-outs more for a busy line whose transport cannot tell what comes in. */
const BUSY_MORE = 3;

/** Pings at a steady pace; whatever comes in counts as a sign of life. */
export class Heartbeat {
  readonly #heart: Heart;
  readonly #timeoutMs: number;
  readonly #beat: Alarm;
  readonly #deadline: Alarm;

  constructor(clock: Clock, heart: Heart, timeoutMs: number) {
    this.#heart = heart;
    this.#timeoutMs = timeoutMs;
    this.#beat = new Alarm(clock);
    this.#deadline = new Alarm(clock);
  }

  start(intervalMs: number): void {
    this.#beat.start(intervalMs, () => {
      this.check();
      this.start(intervalMs);
    });
  }

  /** Pings now, unless an answer is awaited already. */
  check(): void {
    if (this.#deadline.running) return;
    this.#await(BUSY_MORE);
    this.#heart.ping();
  }

  heard(): void {
    this.#deadline.stop();
  }

  stop(): void {
    this.#beat.stop();
    this.#deadline.stop();
  }

  #await(more: number): void {
    const before = this.#heart.received();
    this.#deadline.start(this.#timeoutMs, () => {
      const now = this.#heart.received();
      if (now !== before) this.#await(BUSY_MORE);
      else if (now === undefined && more > 0 && this.#heart.busy()) this.#await(more - 1);
      else this.#heart.dead();
    });
  }
}
