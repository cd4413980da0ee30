// Tells whoever shows something that it changed: once for many changes that come together.

/** Listeners by what they watch. */
export class Watchers {
  readonly #failed: (cause: unknown) => void;
  readonly #listeners = new Map<string, Set<() => void>>();
  readonly #changed = new Set<string>();

  /** `failed` is told what a listener threw: the others are told all the same. */
  constructor(failed: (cause: unknown) => void) {
    this.#failed = failed;
  }

  /** Returns what stops it. */
  watch(what: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(what) ?? new Set();
    this.#listeners.set(what, listeners);
    // The same function may watch twice, and each of them stops by itself.
    const own = (): void => listener();
    listeners.add(own);
    return () => {
      listeners.delete(own);
      if (listeners.size === 0 && this.#listeners.get(what) === listeners) this.#listeners.delete(what);
    };
  }

  /** Somebody watches it. */
  watched(what: string): boolean {
    return this.#listeners.has(what);
  }

  changed(what: string): void {
    if (!this.#listeners.has(what)) return;
    if (this.#changed.size === 0) void Promise.resolve().then(() => this.#tell());
    this.#changed.add(what);
  }

  #tell(): void {
    const changed = [...this.#changed];
    this.#changed.clear();
    for (const what of changed) for (const listener of [...(this.#listeners.get(what) ?? [])]) this.#call(listener);
  }

  #call(listener: () => void): void {
    try {
      listener();
    } catch (cause) {
      this.#failed(cause);
    }
  }
}
