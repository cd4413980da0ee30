// Asks what conversations there are and where they stand: all of them at first, and then what changed since the list before.
// Single ones are asked for when the list cannot say.
import { isRefusal, type ParlanceError, UnavailableError } from "../errors.js";
import { type ListedPage, type ListOptions, listPage } from "../history.js";
import type { Conversation } from "../model.js";
import type { Requests } from "../requests.js";

/** What listing needs. */
export interface ListerContext {
  readonly requests: Requests;
  /** Bytes of a page. */
  bytes(): number;
  /** The answer to a page is overdue. */
  late(): void;
  /** What the cluster says of a conversation. */
  take(conversation: Conversation): void;
  failed(error: ParlanceError): void;
}

/** A list that is under way, or that broke off. */
interface Pass {
  readonly cursor: string;
  readonly changesOnly: boolean;
  readonly after: string;
}

/** Conversations that are asked for in one request. */
const ASKED_MAX = 100;

export class Lister {
  readonly #context: ListerContext;
  /** To be asked for by their ids. */
  readonly #wanted = new Set<string>();
  #cursor = "";
  #pass: Pass | undefined;
  #closed = false;

  constructor(context: ListerContext) {
    this.#context = context;
  }

  /** What changed before it was told, or is still wanted. */
  get cursor(): string {
    return this.#cursor;
  }

  /** Begins where an earlier run was. */
  resume(cursor: string): void {
    this.#cursor = cursor;
  }

  /** A list broke off: what it said first may be old. */
  get brokeOff(): boolean {
    return this.#pass !== undefined;
  }

  /** There are conversations to be asked for. */
  get wants(): boolean {
    return this.#wanted.size > 0;
  }

  want(conversationId: string): void {
    this.#wanted.add(conversationId);
  }

  open(): void {
    this.#closed = false;
  }

  close(): void {
    this.#closed = true;
  }

  /** One list, or the rest of the one that broke off. True if it was whole; undefined if it was closed meanwhile. */
  async list(): Promise<boolean | undefined> {
    for (;;) {
      const before: Pass | undefined = this.#pass;
      const page = await this.#page(before === undefined ? { since: this.#cursor } : { after: before.after });
      if (this.#closed) return undefined;
      for (const conversation of page.conversations) {
        // A shard that does not answer keeps nothing else back.
        if (conversation.headUnknown === true) this.#wanted.add(conversation.conversationId);
        else this.#context.take(conversation);
      }
      const { cursor, changesOnly } = before ?? page;
      this.#pass = { cursor, changesOnly, after: page.nextAfter };
      if (page.nextAfter === "") {
        this.#pass = undefined;
        this.#cursor = cursor;
        return !changesOnly;
      }
    }
  }

  /** Asks for those that are wanted; rejects if some of them cannot be known now. */
  async ask(): Promise<void> {
    const ids = [...this.#wanted];
    let unknown = false;
    while (ids.length > 0 && !this.#closed) {
      const asked = ids.splice(0, ASKED_MAX);
      // What is wanted from here on is not in this answer.
      for (const id of asked) this.#wanted.delete(id);
      const page = await this.#tried(asked);
      for (const conversation of page?.conversations ?? []) {
        if (conversation.headUnknown === true) {
          unknown = true;
          this.#wanted.add(conversation.conversationId);
        } else this.#context.take(conversation);
      }
      const last = page === undefined || page.nextAfter === "" ? -1 : asked.indexOf(page.nextAfter);
      if (last >= 0) {
        const rest = asked.slice(last + 1);
        for (const id of rest) this.#wanted.add(id);
        ids.unshift(...rest);
      }
    }
    if (!unknown) return;
    throw new UnavailableError("unavailable", "the shards of some conversations do not answer", { retryable: true });
  }

  /** Undefined if they are refused for good. */
  async #tried(conversationIds: readonly string[]): Promise<ListedPage | undefined> {
    try {
      return await this.#page({ conversationIds });
    } catch (error) {
      if (isRefusal(error)) {
        this.#context.failed(error);
        return undefined;
      }
      for (const id of conversationIds) this.#wanted.add(id);
      throw error;
    }
  }

  #page(options: ListOptions): Promise<ListedPage> {
    const { requests, bytes, late } = this.#context;
    return listPage(requests, options, bytes, { late });
  }
}
