// Bounds the app's own parts, which may never answer.
import { Alarm, type Clock } from "./clock.js";
import { TimedOutError } from "./errors.js";

/** What `promise` says, or a TimedOutError after `ms`; what comes later is ignored. */
export function within<T>(clock: Clock, ms: number, what: string, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const deadline = new Alarm(clock);
    deadline.start(ms, () => reject(new TimedOutError(`${what} did not answer within ${ms} ms`)));
    promise.then(
      (value) => {
        deadline.stop();
        resolve(value);
      },
      (cause: unknown) => {
        deadline.stop();
        reject(cause as Error);
      },
    );
  });
}
