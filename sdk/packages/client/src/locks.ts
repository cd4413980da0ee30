// Which of the clients that share a store still live, where the platform can tell: each holds a lock as long as it does.

/** The part of `navigator.locks` that is used. */
export interface Locks {
  request(name: string, options: { ifAvailable: true }, act: (lock: unknown) => Promise<void>): Promise<unknown>;
}

declare const navigator: { readonly locks?: Locks } | undefined;

/** Those of the platform, if it has any. */
export function platformLocks(): Locks | undefined {
  return typeof navigator === "undefined" ? undefined : navigator.locks;
}

/** The locks that one client holds. Without `Locks` nobody else seems to live. */
export class Claims {
  readonly #locks: Locks | undefined;
  readonly #held = new Map<string, () => void>();
  #releases = 0;

  constructor(locks: Locks | undefined) {
    this.#locks = locks;
  }

  /** True when no other client has it: now this one does, until `release`. */
  claim(name: string): Promise<boolean> {
    const locks = this.#locks;
    if (locks === undefined || this.#held.has(name)) return Promise.resolve(true);
    const asked = this.#releases;
    return new Promise((resolve) => {
      const act = (lock: unknown): Promise<void> => {
        // What comes after a release is not wanted any more.
        const granted = lock !== null && asked === this.#releases;
        resolve(granted);
        return granted ? new Promise((release) => this.#held.set(name, release)) : Promise.resolve();
      };
      // Where locks are forbidden, as in some frames, it is as if there were none.
      Promise.resolve()
        .then(() => locks.request(name, { ifAvailable: true }, act))
        .catch(() => resolve(true));
    });
  }

  release(): void {
    this.#releases += 1;
    for (const release of this.#held.values()) release();
    this.#held.clear();
  }
}
