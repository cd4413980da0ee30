// Finds connections that are dead without a word, and keeps the gateway from thinking so of us.
import { Alarm, type Clock } from "./clock.js";

/** What a heartbeat needs from its connection. */
export interface Heart {
  ping(): void;
  /** Nothing came since the last ping. */
  dead(): void;
}

/** Pings at a steady pace; any frame counts as a sign of life. */
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
    this.#deadline.start(this.#timeoutMs, () => this.#heart.dead());
    this.#heart.ping();
  }

  heard(): void {
    this.#deadline.stop();
  }

  stop(): void {
    this.#beat.stop();
    this.#deadline.stop();
  }
}
