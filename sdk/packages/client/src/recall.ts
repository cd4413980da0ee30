// Shows and sends what an earlier run left.
import type { Cache } from "./cache/cache.js";
import type { Remembered } from "./cache/remembered.js";
import type { Conversations } from "./conversations.js";
import { AppError, type ParlanceError } from "./errors.js";
import type { Outbox } from "./outbox.js";
import type { StoreOwner } from "./store.js";

export interface RecallContext {
  readonly cache: Cache;
  readonly conversations: Conversations;
  readonly outbox: Outbox;
  failed(error: ParlanceError): void;
}

export class Recall {
  readonly #context: RecallContext;
  #shown = false;
  #running: Promise<Remembered> | undefined;
  #closes = 0;

  constructor(context: RecallContext) {
    this.#context = context;
  }

  /**
   * What is left is shown once, and what is unsent is looked for each time. Rejects when the store cannot be read, and
   * may then be called again.
   */
  of(owner: StoreOwner): Promise<Remembered> {
    this.#running ??= this.#of(owner);
    return this.#running;
  }

  /** What is still being looked for is for the next run, and may be this client's. */
  close(): void {
    this.#closes += 1;
    this.#running = undefined;
    this.#context.cache.close();
  }

  async #of(owner: StoreOwner): Promise<Remembered> {
    const { cache, conversations } = this.#context;
    const closes = this.#closes;
    conversations.setUser(owner.userId);
    try {
      const remembered = await cache.open(owner);
      if (!this.#shown) conversations.restore(remembered.conversations);
      this.#shown = true;
      if (closes === this.#closes) await this.#unsent();
      return remembered;
    } finally {
      if (closes === this.#closes) this.#running = undefined;
    }
  }

  async #unsent(): Promise<void> {
    const { cache, outbox, failed } = this.#context;
    try {
      outbox.restore(await cache.unsent());
    } catch (cause) {
      failed(new AppError("store", "what was left unsent could not be read", { cause }));
    }
  }
}
