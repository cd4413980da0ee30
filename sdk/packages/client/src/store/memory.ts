// The default store: forgets at a restart.
import type { Changes, Store } from "../store.js";

/** Lives as long as the object; hand the same one to a new client to go on where the old one ended. */
export class MemoryStore implements Store {
  readonly #rows = new Map<string, string>();

  keys(prefix: string): string[] {
    return [...this.#rows.keys()].filter((key) => key.startsWith(prefix));
  }

  read(keys: readonly string[]): (string | undefined)[] {
    return keys.map((key) => this.#rows.get(key));
  }

  write(changes: Changes): void {
    for (const [key, text] of changes) {
      if (text === undefined) this.#rows.delete(key);
      else this.#rows.set(key, text);
    }
  }
}
