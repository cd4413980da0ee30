// Shows and sends what an earlier run left.
import type { Cache, Remembered } from "./cache/cache.js";
import type { Clock } from "./clock.js";
import type { Conversations } from "./conversations.js";
import { type ParlanceError, TimedOutError } from "./errors.js";
import type { PendingMessage } from "./model.js";
import type { Outbox } from "./outbox.js";
import type { StoreOwner } from "./store.js";

export interface RecallContext {
  readonly clock: Clock;
  readonly cache: Cache;
  readonly conversations: Conversations;
  readonly outbox: Outbox;
  unsent(message: PendingMessage, error: ParlanceError): void;
}

/** The cluster knows a message's id for at least a day: a message that is older is not sent again. */
const RESEND_MS_MAX = 20 * 3_600_000;

export class Recall {
  readonly #context: RecallContext;
  #done = false;

  constructor(context: RecallContext) {
    this.#context = context;
  }

  /** Does it once; rejects when the store cannot be read, and may then be called again. */
  async of(owner: StoreOwner): Promise<Remembered> {
    const { cache, conversations, outbox, clock, unsent } = this.#context;
    conversations.setUser(owner.userId);
    const remembered = await cache.open(owner);
    if (this.#done) return remembered;
    this.#done = true;
    conversations.restore(remembered.conversations);
    const oldest = clock.now() - RESEND_MS_MAX;
    outbox.restore(remembered.unsent.filter(({ timeMs }) => timeMs >= oldest));
    for (const message of remembered.unsent.filter(({ timeMs }) => timeMs < oldest)) {
      cache.settled(message.clientMessageId);
      unsent(message, new TimedOutError("too old to be sent again: it may have been stored"));
    }
    return remembered;
  }
}
