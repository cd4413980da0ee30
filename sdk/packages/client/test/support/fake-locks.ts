// Locks as browsers have them, for the clients of a test; a test can end those of one client, as when its page goes.
import type { Locks } from "../../src/index.js";

export class FakeLocks {
  readonly #held = new Set<string>();

  /** What one page sees. `end` lets go of all that it holds. */
  page(): { readonly locks: Locks; end(): void } {
    const own = new Set<string>();
    const locks: Locks = {
      request: async (name, _options, act) => {
        if (this.#held.has(name)) return act(null);
        this.#held.add(name);
        own.add(name);
        await act({ name });
        if (own.delete(name)) this.#held.delete(name);
      },
    };
    const end = (): void => {
      for (const name of own) this.#held.delete(name);
      own.clear();
    };
    return { locks, end };
  }
}
