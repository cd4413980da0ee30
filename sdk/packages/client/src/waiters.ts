// Those who wait for a log-in: each until it comes, or until its own time-out or signal says otherwise.
import { type CancelSignal, onCancel } from "./cancel.js";
import { Alarm, type Clock } from "./clock.js";
import { type ParlanceError, TimedOutError } from "./errors.js";
import type { Session } from "./model.js";

/** How long `connect` waits. The client goes on trying afterwards, until `close`. */
export interface ConnectOptions {
  /** Then `connect` rejects with a TimedOutError, whose cause is the last failure. Default: no limit. */
  readonly timeoutMs?: number;
  readonly signal?: CancelSignal;
}

interface Waiter {
  resolve(session: Session): void;
  reject(error: ParlanceError): void;
}

export class Waiters {
  readonly #clock: Clock;
  readonly #waiting = new Set<Waiter>();
  #lastFailure: ParlanceError | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  wait(options: ConnectOptions): Promise<Session> {
    return new Promise((resolve, reject) => {
      const { timeoutMs, signal } = options;
      const deadline = new Alarm(this.#clock);
      const settle = (act: () => void): void => {
        deadline.stop();
        forget();
        this.#waiting.delete(waiter);
        act();
      };
      const waiter: Waiter = {
        resolve: (session) => settle(() => resolve(session)),
        reject: (error) => settle(() => reject(error)),
      };
      const forget = onCancel(signal, (error) => waiter.reject(error));
      this.#waiting.add(waiter);
      if (timeoutMs === undefined) return;
      deadline.start(timeoutMs, () =>
        waiter.reject(new TimedOutError(`not logged in within ${timeoutMs} ms`, this.#lastFailure)),
      );
    });
  }

  /** An attempt failed, and another will follow. */
  failed(error: ParlanceError | undefined): void {
    this.#lastFailure = error ?? this.#lastFailure;
  }

  resolve(session: Session): void {
    this.#lastFailure = undefined;
    for (const waiter of [...this.#waiting]) waiter.resolve(session);
  }

  reject(error: ParlanceError): void {
    for (const waiter of [...this.#waiting]) waiter.reject(error);
  }
}
