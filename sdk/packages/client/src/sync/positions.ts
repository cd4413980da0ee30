// Writes to the store what was handed to the app: one write at a time, everything since the last one together.
import { asError, type ParlanceError } from "../errors.js";
import type { Positions, Store, StoreOwner } from "../store.js";

export class PositionWriter {
  readonly #store: Store;
  readonly #owner: StoreOwner;
  readonly #failed: (error: ParlanceError) => void;
  #changed = new Map<string, number>();
  #dirty = false;
  #writing = false;

  constructor(store: Store, owner: StoreOwner, failed: (error: ParlanceError) => void) {
    this.#store = store;
    this.#owner = owner;
    this.#failed = failed;
  }

  note(conversationId: string, seq: number): void {
    this.#changed.set(conversationId, seq);
    this.flush();
  }

  /** Also with nothing to note: it marks that the user logged in. */
  flush(): void {
    this.#dirty = true;
    if (!this.#writing) void this.#write();
  }

  async #write(): Promise<void> {
    this.#writing = true;
    // Lets the events of one batch gather.
    await Promise.resolve();
    while (this.#dirty) {
      const changed: Positions = this.#changed;
      this.#changed = new Map();
      this.#dirty = false;
      try {
        await this.#store.save(this.#owner, changed);
      } catch (cause) {
        this.#failed(asError("store", "the store failed to save positions", cause));
      }
    }
    this.#writing = false;
  }
}
