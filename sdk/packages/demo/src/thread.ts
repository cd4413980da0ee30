// One conversation's messages as the page shows them: stored ones by seq, and own ones on their way. No DOM.
import type { ConversationEvent, ParlanceClient } from "@parlance/client";

/** An own message that is not stored yet, as far as is known. */
export interface Pending {
  readonly clientMessageId: string;
  readonly text: string;
  readonly timeMs: number;
  /** Why it failed; empty while it is on its way. */
  problem: string;
}

/** Messages fetched per page of history. */
const PAGE = 40;

export class Thread {
  readonly peer: string;
  readonly #client: ParlanceClient;
  readonly #changed: () => void;
  readonly #events = new Map<number, ConversationEvent>();
  pending: Pending[] = [];
  /** There is older history to fetch. */
  more = true;
  loading = false;
  /** Why history could not be fetched; empty if it could. */
  problem = "";

  constructor(client: ParlanceClient, peer: string, changed: () => void) {
    this.#client = client;
    this.peer = peer;
    this.#changed = changed;
  }

  /** In order of seq. */
  get events(): ConversationEvent[] {
    return [...this.#events.values()].sort((a, b) => a.seq - b.seq);
  }

  add(event: ConversationEvent): void {
    this.#events.set(event.seq, event);
    if (event.type === "message") {
      this.pending = this.pending.filter((item) => item.clientMessageId !== event.clientMessageId);
    }
  }

  /** Fetches the next older page. */
  async loadOlder(): Promise<void> {
    if (this.loading || !this.more) return;
    this.loading = true;
    this.problem = "";
    this.#changed();
    try {
      const oldest = Math.min(...this.#events.keys());
      const startSeq = Number.isFinite(oldest) ? oldest - 1 : 0;
      if (oldest === 1) {
        this.more = false;
      } else {
        const page = await this.#client.history({ to: this.peer, startSeq, limit: PAGE });
        for (const event of page.events) this.add(event);
        this.more = page.more;
      }
    } catch (error) {
      // A conversation that does not exist yet has no history.
      if (error instanceof Error && "code" in error && error.code === "not_found") this.more = false;
      else this.problem = error instanceof Error ? error.message : String(error);
    } finally {
      this.loading = false;
      this.#changed();
    }
  }

  send(text: string): void {
    this.#post({ clientMessageId: this.#client.newMessageId(), text, timeMs: Date.now(), problem: "" });
  }

  /** The same id again: had it been stored after all, it is not stored twice. */
  retry(item: Pending): void {
    this.pending = this.pending.filter((other) => other !== item);
    this.#post({ ...item, timeMs: Date.now(), problem: "" });
  }

  discard(item: Pending): void {
    this.pending = this.pending.filter((other) => other !== item);
    this.#changed();
  }

  #post(item: Pending): void {
    this.pending.push(item);
    this.#changed();
    this.#client.send({ to: this.peer, text: item.text, clientMessageId: item.clientMessageId }).then(
      () => {
        this.pending = this.pending.filter((other) => other !== item);
        this.#changed();
      },
      (error: unknown) => {
        item.problem = error instanceof Error ? error.message : String(error);
        this.#changed();
      },
    );
  }
}
