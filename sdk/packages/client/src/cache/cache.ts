// What a client remembers over restarts, for one user:
//
//   m                                   "first": the first log-in is under way; "based": it was complete once
//   p/<conversation>                    the last seq that was handed to the app
//   e/<conversation>/<seq>/<time>/<n>   an event in n characters; those are bounded, and the oldest go
//   c/<conversation>                    the conversation as last shown
//   o/<number>                          a message that is not acknowledged
//
// A row that was damaged is as if it were not there, which leads to asking the cluster again: a conversation without a
// position starts at 1, never at its head, once there was a log-in.
import type { ParlanceError } from "../errors.js";
import { asError } from "../errors.js";
import type { Conversation, ConversationEvent, PendingMessage } from "../model.js";
import type { Store, StoreOwner } from "../store.js";
import { Shelf } from "./shelf.js";
import { idPart, seal, unseal } from "./text.js";
import { fromConversation, fromMessage, fromPending, toConversation, toMessage, toPending } from "./values.js";
import { Writer } from "./writer.js";

export interface CacheContext {
  readonly store: Store;
  readonly bytesMax: number;
  failed(error: ParlanceError): void;
}

/** What was left by an earlier run. */
export interface Remembered {
  /** Conversation id → the last seq that was handed to the app. */
  readonly positions: ReadonlyMap<string, number>;
  /** This user's first log-in here was complete: what is not in `positions` is new. */
  readonly based: boolean;
  readonly conversations: readonly Conversation[];
  /** In the order in which they were sent. */
  readonly unsent: readonly PendingMessage[];
}

/** When the store is full in spite of its bound: so much of the bound is left. */
const LEFT_WHEN_FULL = 0.5;
const NUMBER_DIGITS = 12;

export class Cache {
  readonly #context: CacheContext;
  readonly #shelf: Shelf;
  readonly #unsent = new Map<string, string>();
  readonly #positions = new Map<string, number>();
  /** What came before it was known whose it is. */
  #early: (() => void)[] = [];
  #opened: Promise<Remembered> | undefined;
  #writer: Writer | undefined;
  #prefix = "";
  #nextUnsent = 1;
  #erased = false;

  constructor(context: CacheContext) {
    this.#context = context;
    this.#shelf = new Shelf(context.bytesMax);
  }

  /** Reads what is there, once; rejects when the store cannot be read, and may then be called again. */
  open(owner: StoreOwner): Promise<Remembered> {
    this.#opened ??= this.#open(owner).catch((cause: unknown) => {
      this.#opened = undefined;
      // Going on without positions would turn what was missed into history, silently.
      throw asError("store", "the store failed to load", cause);
    });
    return this.#opened;
  }

  /** Positions are those of a first log-in until `based`. */
  begun(): void {
    this.#put("m", seal("first"));
  }

  based(): void {
    this.#put("m", seal("based"));
  }

  /** Everything up to `seq` was handed to the app. */
  position(conversationId: string, seq: number): void {
    this.#positions.set(conversationId, seq);
    this.#put(`p/${idPart(conversationId)}`, seal([conversationId, seq]));
  }

  /** Nothing that is kept of this conversation is true any more. */
  forget(conversationId: string): void {
    this.#positions.delete(conversationId);
    for (const kind of ["p", "c"]) this.#put(`${kind}/${idPart(conversationId)}`, undefined);
    for (const key of this.#shelf.all(conversationId)) {
      this.#shelf.remove(key);
      this.#put(key, undefined);
    }
  }

  /** Keeps events; of what is kept the oldest goes when there is too much. */
  keep(events: readonly ConversationEvent[]): void {
    for (const event of events) {
      const value = event.type === "message" ? fromMessage(event) : undefined;
      if (value === undefined) continue;
      const row = seal(value);
      const key = this.#shelf.add(event, row.length);
      if (key !== undefined) this.#put(key, row);
    }
    for (const key of this.#shelf.clear()) this.#put(key, undefined);
  }

  /**
   * Events right below `before` without a gap, in ascending seq; without `before` the last that were handed to the app.
   * None when they are not here.
   */
  async older(conversationId: string, before: number | undefined, limit: number): Promise<ConversationEvent[]> {
    // If the store cannot be read, the cluster can be asked.
    await this.#opened?.catch(() => {});
    const below = before ?? (this.#positions.get(conversationId) ?? 0) + 1;
    const keys = this.#shelf.below(conversationId, below, limit);
    const rows = (await this.#writer?.read(keys).catch(() => [])) ?? [];
    const events: ConversationEvent[] = [];
    for (const [index, row] of rows.entries()) {
      const event = row === undefined ? undefined : toMessage(unseal(row));
      if (event === undefined) {
        this.#damaged(keys[index] ?? "");
        break;
      }
      events.unshift(event);
    }
    return events;
  }

  shown(conversation: Conversation): void {
    this.#put(`c/${idPart(conversation.conversationId)}`, seal(fromConversation(conversation)));
  }

  /** Remembers a message until `settled`. */
  sending(pending: PendingMessage): void {
    this.#whenOpen(() => {
      if (this.#unsent.has(pending.clientMessageId)) return;
      const key = `o/${String(this.#nextUnsent).padStart(NUMBER_DIGITS, "0")}`;
      this.#nextUnsent += 1;
      this.#unsent.set(pending.clientMessageId, key);
      this.#put(key, seal(fromPending(pending)));
    });
  }

  settled(clientMessageId: string): void {
    this.#whenOpen(() => {
      const key = this.#unsent.get(clientMessageId);
      if (key === undefined) return;
      this.#unsent.delete(clientMessageId);
      this.#put(key, undefined);
    });
  }

  /** Deletes everything of this user; nothing is kept from now on. */
  async erase(): Promise<void> {
    this.#erased = true;
    await this.#opened?.catch(() => {});
    await this.#writer?.stop();
    if (this.#prefix === "") return;
    const keys = await this.#context.store.keys(this.#prefix);
    await this.#context.store.write(new Map(keys.map((key) => [key, undefined])));
  }

  async #open(owner: StoreOwner): Promise<Remembered> {
    const { store, failed } = this.#context;
    this.#prefix = `parlance/${idPart(owner.appId)}/${idPart(owner.userId)}/`;
    const keys = (await store.keys(this.#prefix)).map((key) => key.slice(this.#prefix.length)).sort();
    const wanted = keys.filter((key) => !key.startsWith("e/"));
    const rows = await store.read(wanted.map((key) => this.#prefix + key));
    this.#writer = new Writer({
      store,
      prefix: this.#prefix,
      failed,
      makeRoom: () => this.#shelf.clear(LEFT_WHEN_FULL),
    });
    for (const key of keys) if (key.startsWith("e/") && !this.#shelf.restore(key)) this.#damaged(key);
    const remembered = this.#read(wanted, rows);
    for (const [conversationId, seq] of remembered.positions) this.#positions.set(conversationId, seq);
    for (const act of this.#early.splice(0)) act();
    for (const key of this.#shelf.clear()) this.#put(key, undefined);
    return remembered;
  }

  #read(keys: readonly string[], rows: readonly (string | undefined)[]): Remembered {
    const positions = new Map<string, number>();
    const conversations: Conversation[] = [];
    const unsent: PendingMessage[] = [];
    let first = false;
    for (const [index, key] of keys.entries()) {
      const value = unseal(rows[index] ?? "");
      const read = (): unknown => {
        if (key === "m") return typeof value === "string" ? value : undefined;
        if (key.startsWith("p/")) return addPosition(positions, value);
        if (key.startsWith("c/")) return add(conversations, toConversation(value));
        return key.startsWith("o/") ? this.#restoreUnsent(key, unsent, toPending(value)) : undefined;
      };
      const done = read();
      if (done === undefined) this.#damaged(key);
      first ||= done === "first";
    }
    // Rows without the mark, or with a damaged one: the user was here. It is safer to hand out too much.
    return { positions, based: keys.length > 0 && !first, conversations, unsent };
  }

  #restoreUnsent(key: string, unsent: PendingMessage[], pending: PendingMessage | undefined): true | undefined {
    if (pending === undefined) return undefined;
    this.#unsent.set(pending.clientMessageId, key);
    this.#nextUnsent = Math.max(this.#nextUnsent, Number(key.slice(2)) + 1);
    unsent.push(pending);
    return true;
  }

  #damaged(key: string): void {
    this.#shelf.remove(key);
    this.#put(key, undefined);
    this.#context.failed(asError("store", `the row ${key} was damaged: it is fetched again`, undefined));
  }

  #put(key: string, row: string | undefined): void {
    this.#whenOpen(() => this.#writer?.put(key, row));
  }

  #whenOpen(act: () => void): void {
    if (this.#erased) return;
    if (this.#writer === undefined) this.#early.push(act);
    else act();
  }
}

function addPosition(positions: Map<string, number>, value: unknown): true | undefined {
  if (!Array.isArray(value)) return undefined;
  const [conversationId, seq] = value as unknown[];
  if (typeof conversationId !== "string" || !Number.isSafeInteger(seq)) return undefined;
  positions.set(conversationId, seq as number);
  return true;
}

function add<T>(list: T[], value: T | undefined): true | undefined {
  if (value === undefined) return undefined;
  list.push(value);
  return true;
}
