// Cancelling by signal. AbortSignal fits; mini-programs, which lack it, can bring anything of this shape.
import { CancelledError } from "./errors.js";

/** The part of an AbortSignal that is used. */
export interface CancelSignal {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** Calls `cancel` once when the signal says so; returns what stops listening. Throws when it said so before. */
export function onCancel(signal: CancelSignal | undefined, cancel: (error: CancelledError) => void): () => void {
  if (signal === undefined) return () => {};
  if (signal.aborted) throw new CancelledError();
  const listener = (): void => {
    signal.removeEventListener("abort", listener);
    cancel(new CancelledError());
  };
  signal.addEventListener("abort", listener);
  return () => signal.removeEventListener("abort", listener);
}
