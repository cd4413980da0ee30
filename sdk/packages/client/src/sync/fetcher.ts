// Fetches what conversations lack: one page of each in turns, so that a long one does not hold up the others, and as
// much at a time as the line bears. One that fails rests for a while, and the others go on.
import { Backoff, type BackoffOptions } from "../backoff.js";
import { Alarm, type Clock, stopwatch } from "../clock.js";
import { isRefusal } from "../errors.js";
import type { HistoryPage } from "../model.js";
import type { RandomSource } from "../random.js";
import { sizeOf } from "./held.js";
import { Pace } from "./pace.js";
import type { Sequence } from "./sequence.js";

/** What fetching needs. */
export interface FetcherContext {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly backoff: BackoffOptions;
  /** Calls `asked` whenever the request goes out, and `late` when its answer is overdue. */
  history(sequence: Sequence, on: { asked(): void; late(): void }): Promise<HistoryPage>;
  take(sequence: Sequence, from: number, page: HistoryPage): void;
  /** A page came: perhaps the last one. */
  progress(): void;
  failed(cause: unknown): void;
  /** A wait is over: whatever else failed can be tried again, too. */
  retry(): void;
}

export class Fetcher {
  /** How much to ask for at a time. */
  readonly pace: Pace;
  readonly #context: FetcherContext;
  /** In the order in which they get their next page. */
  readonly #wanted = new Set<Sequence>();
  readonly #running = new Set<Sequence>();
  /** Failed, and not tried again before the wait is over. */
  readonly #resting = new Set<Sequence>();
  readonly #retry: Alarm;
  readonly #backoff: Backoff;
  #closed = true;

  constructor(context: FetcherContext) {
    this.#context = context;
    this.pace = new Pace(stopwatch(context.clock));
    this.#retry = new Alarm(context.clock);
    this.#backoff = new Backoff(context.backoff, context.random);
  }

  /** Nothing is missing, or what is was refused for good. */
  get idle(): boolean {
    return this.#wanted.size === 0;
  }

  /** Logged in: what was waited for is tried at once. */
  start(): void {
    this.#closed = false;
    this.#retry.stop();
    this.#resting.clear();
    this.#backoff.reset();
    this.#pump();
  }

  stop(): void {
    this.#closed = true;
    this.#retry.stop();
  }

  /** The connection broke. */
  lost(): void {
    if (this.#running.size > 0) this.pace.slow();
  }

  /** Fetches what this conversation lacks, if anything. */
  want(sequence: Sequence): void {
    if (!sequence.behind || this.#wanted.has(sequence)) return;
    this.#wanted.add(sequence);
    this.#pump();
  }

  /** Something worked: the next wait is a short one, unless something else fails still. */
  worked(): void {
    if (this.#resting.size === 0) this.#backoff.reset();
  }

  /** Waits before the next try of what failed, `atLeastMs` in any case. */
  later(atLeastMs: number): void {
    if (this.#closed || this.#retry.running) return;
    this.#retry.start(this.#backoff.next(atLeastMs), () => {
      this.#resting.clear();
      this.#context.retry();
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#closed) return;
    for (const sequence of this.#wanted) {
      if (this.#running.size >= this.pace.parallel) return;
      if (this.#running.has(sequence) || this.#resting.has(sequence)) continue;
      this.#running.add(sequence);
      void this.#fetch(sequence);
    }
  }

  async #fetch(sequence: Sequence): Promise<void> {
    const from = sequence.next;
    let asked = this.pace.asked();
    const on = {
      asked: () => {
        asked = this.pace.asked();
      },
      late: () => this.pace.slow(),
    };
    try {
      const page = await this.#context.history(sequence, on);
      if (this.#closed) return;
      const bytes = page.events.reduce((sum, event) => sum + sizeOf(event), 0);
      this.pace.answered(bytes, asked);
      this.#context.take(sequence, from, page);
      this.#wanted.delete(sequence);
      // Behind the others.
      if (sequence.behind) this.#wanted.add(sequence);
      this.worked();
    } catch (error) {
      // Retrying what is refused for good would never end. What was closed meanwhile goes on after the next log-in.
      if (isRefusal(error)) this.#wanted.delete(sequence);
      else if (!this.#closed) this.#resting.add(sequence);
      this.#context.failed(error);
    } finally {
      this.#running.delete(sequence);
    }
    this.#pump();
    this.#context.progress();
  }
}
