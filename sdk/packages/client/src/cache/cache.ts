// What a client remembers over restarts, for one user:
//
//   m/first, m/based                    the first log-in is under way; it was complete once
//   p/<conversation>/<seq>              the last seq that was handed to the app: see places.ts
//   e/<conversation>/<seq>/<time>/<n>   an event in n bytes; those are bounded, and the oldest go
//   c/<conversation>                    the conversation as last shown; bounded too
//   o/<time>/<run>/<n>                  a message that is not acknowledged: see letters.ts
//   m/cursor                            the cursor of a list, and a sum over the rows of conversations that have everything
//                                       that changed before it
//
// Several clients may share a store: a row that is gone was deleted by another one. Where the rows of conversations are not
// those that the cursor's writer knew, the cursor counts for nothing: what one client wrote late may be older than the
// cursor of another. A row that was damaged is as if it were not there, which leads to asking the cluster again: a
// conversation without a position starts at 1, never at its head, once there was a log-in.
import type { Clock } from "../clock.js";
import { within } from "../deadline.js";
import { AppError, asError, type ParlanceError } from "../errors.js";
import type { Locks } from "../locks.js";
import type { Conversation, ConversationEvent, PendingMessage } from "../model.js";
import type { RandomSource } from "../random.js";
import type { Store, StoreOwner } from "../store.js";
import { MemoryStore } from "../store/memory.js";
import { utf8Length } from "../utf8.js";
import { Faces } from "./faces.js";
import { Letters } from "./letters.js";
import { Places } from "./places.js";
import { BASED, CURSOR, FIRST, type Remembered, type Rows, readRows, remember, sealCursor } from "./remembered.js";
import { Shelf } from "./shelf.js";
import { idPart, seal, unseal } from "./text.js";
import { fromConversation, fromMessage, toMessage } from "./values.js";
import { Writer } from "./writer.js";

export interface CacheContext {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly store: Store;
  readonly locks: Locks | undefined;
  readonly bytesMax: number;
  failed(error: ParlanceError): void;
}

/** A store that cannot be read so often is given up. */
const TRIES_MAX = 4;
/** A store that does not answer so long cannot be read, or erased. */
const TIMEOUT_MS = 10_000;
/** Part of the bound for events that conversations and unsent messages may take, each, beside them. */
const OTHERS_PART = 0.25;
/** After so much of the bound was written it is time to see what others wrote. */
const LOOK_PART = 0.1;

export class Cache {
  readonly #context: CacheContext;
  readonly #shelf: Shelf;
  readonly #faces: Faces;
  readonly #letters: Letters;
  readonly #places = new Places();
  #store: Store;
  #tries = 0;
  /** What came before it was known whose it is. */
  #early: ((writer: Writer) => void)[] = [];
  #opened: Promise<Remembered> | undefined;
  #writer: Writer | undefined;
  #prefix = "";
  #keptSinceLook = 0;
  #erased = false;
  /** A conversation as last shown is not in its row: it would stay as it was before. */
  #lacking = false;
  /** The cursor that the store has, or is given; empty for none. */
  #cursor = "";

  constructor(context: CacheContext) {
    const { bytesMax, store } = context;
    this.#context = context;
    this.#store = store;
    this.#shelf = new Shelf(bytesMax);
    this.#faces = new Faces(bytesMax * OTHERS_PART);
    this.#letters = new Letters({
      ...context,
      bytesMax: bytesMax * OTHERS_PART,
      damaged: (key) => this.#damaged(key),
    });
  }

  /**
   * Reads what is there, once; rejects when the store cannot be read, and may then be called again. After some tries
   * the store is given up, and what is to be remembered is kept in memory.
   */
  open(owner: StoreOwner): Promise<Remembered> {
    this.#prefix = prefixOf(owner);
    this.#opened ??= this.#open().catch((cause: unknown) => {
      this.#opened = undefined;
      this.#tries += 1;
      // Going on without positions would turn what was missed into history, silently.
      if (this.#tries < TRIES_MAX) throw new AppError("store", "the store failed to load", { cause });
      const message = "the store cannot be read: it is left as it is, and the client goes on from the newest events";
      this.#context.failed(new AppError("store", message, { cause }));
      this.#store = new MemoryStore();
      this.#opened = this.#open();
      return this.#opened;
    });
    return this.#opened;
  }

  /** Positions are those of a first log-in until `based`. */
  begun(): void {
    this.#put(FIRST, seal(true));
  }

  based(): void {
    this.#put(BASED, seal(true));
    this.#put(FIRST, undefined);
  }

  /** The next list may begin here, as soon as everything is written that was told before. */
  cursor(cursor: string): void {
    this.#whenOpen((writer) => {
      this.#cursor = this.#lacking ? "" : cursor;
      writer.putLast(CURSOR, this.#cursor === "" ? undefined : sealCursor(this.#cursor, this.#faces.sum));
    });
  }

  /** Everything up to `seq` was handed to the app. */
  position(conversationId: string, seq: number): void {
    this.#whenOpen((writer) => {
      const moved = this.#places.move(conversationId, seq);
      if (moved === undefined) return;
      writer.put(moved.key, seal(seq));
      if (moved.before !== undefined) writer.replaced(moved.before);
    });
  }

  /** Nothing that is kept of this conversation is true any more. */
  forget(conversationId: string): void {
    this.#whenOpen(() => {
      const face = `c/${idPart(conversationId)}`;
      this.#faces.remove(face);
      const position = this.#places.forget(conversationId);
      const events = this.#shelf.all(conversationId);
      for (const key of events) this.#shelf.remove(key);
      this.#delete([face, ...(position === undefined ? [] : [position]), ...events]);
      this.#cursorAlong();
    });
  }

  /** Keeps events; of what is kept the oldest goes when there is too much. */
  keep(events: readonly ConversationEvent[]): void {
    for (const event of events) {
      const value = event.type === "message" ? fromMessage(event) : undefined;
      if (value === undefined) continue;
      const row = seal(value);
      const bytes = utf8Length(row);
      const key = this.#shelf.add(event, bytes);
      if (key === undefined) continue;
      this.#put(key, row);
      this.#keptSinceLook += bytes;
    }
    this.#delete(this.#shelf.clear());
    if (this.#keptSinceLook > this.#context.bytesMax * LOOK_PART) void this.#look();
  }

  /**
   * Events right below `before` without a gap, in ascending seq; without `before` the last that were handed to the app.
   * None when they are not here.
   */
  async older(conversationId: string, before: number | undefined, limit: number): Promise<ConversationEvent[]> {
    // If the store cannot be read, the cluster can be asked.
    await this.#opened?.catch(() => {});
    const below = before ?? (this.#places.all.get(conversationId) ?? 0) + 1;
    const keys = this.#shelf.below(conversationId, below, limit);
    const rows = this.#writer === undefined ? [] : await this.#inTime(this.#writer.read(keys)).catch(() => []);
    const events: ConversationEvent[] = [];
    for (const [index, row] of rows.entries()) {
      const key = keys[index] ?? "";
      const event = row === undefined ? undefined : toMessage(unseal(row));
      if (event === undefined) {
        this.#shelf.remove(key);
        if (row !== undefined) this.#damaged(key);
        break;
      }
      events.unshift(event);
    }
    return events;
  }

  shown(conversation: Conversation): void {
    const key = `c/${idPart(conversation.conversationId)}`;
    const row = seal(fromConversation(conversation));
    this.#whenOpen(() => {
      this.#put(key, row);
      this.#delete(this.#faces.add(key, conversation.lastEvent?.timeMs ?? 0, row));
      this.#cursorAlong();
    });
  }

  /** Remembers a message until `settled`, or how it is now. */
  sending(message: PendingMessage): void {
    this.#whenOpen((writer) => this.#letters.put(writer, message));
  }

  settled(clientMessageId: string): void {
    this.#whenOpen((writer) => this.#letters.delete(writer, clientMessageId));
  }

  /**
   * What was left unsent, in the order in which it was sent: by earlier runs and by clients that ended since. Each of
   * them is told once, until `close`.
   */
  async unsent(): Promise<PendingMessage[]> {
    if (this.#writer === undefined || this.#erased) return [];
    return this.#letters.take(await this.#inTime(this.#letters.left(this.#writer)));
  }

  /** What is left unsent is for whoever comes next, and may be this client. */
  close(): void {
    // In its turn, behind what was to be sent before.
    this.#whenOpen(() => this.#letters.release());
  }

  /** Deletes everything of this user; nothing is kept from now on. */
  async erase(owner: StoreOwner): Promise<void> {
    this.#erased = true;
    this.#early = [];
    await this.#opened?.catch(() => {});
    const { store } = this.#context;
    const erasing = async (): Promise<void> => {
      await this.#writer?.stop();
      const keys = await store.keys(prefixOf(owner));
      await store.write(new Map(keys.map((key) => [key, undefined])));
    };
    try {
      await this.#inTime(erasing());
    } catch (cause) {
      throw new AppError("store", "the store failed to delete", { cause });
    }
  }

  async #open(): Promise<Remembered> {
    const [store, prefix] = [this.#store, this.#prefix];
    const { rows, events, letters } = await this.#inTime(readRows(store, prefix));
    for (const key of letters) this.#letters.saw(key);
    this.#writer = new Writer({
      clock: this.#context.clock,
      store,
      prefix,
      failed: (error) => this.#context.failed(error),
      makeRoom: () => [...this.#shelf.halve(), ...this.#faces.halve()],
      dropped: (keys) => {
        for (const key of keys) (key.startsWith("e/") ? this.#shelf : this.#faces).remove(key);
        if (!keys.some((key) => key.startsWith("c/"))) return;
        this.#lacking = true;
        this.#cursor = "";
        this.#put(CURSOR, undefined);
      },
    });
    for (const key of events) if (!this.#shelf.restore(key)) this.#damaged(key);
    const remembered = this.#read(rows, events.length > 0);
    for (const act of this.#early.splice(0)) act(this.#writer);
    this.#delete(this.#shelf.clear());
    return remembered;
  }

  #read(rows: Rows["rows"], events: boolean): Remembered {
    const read = remember(rows, { places: this.#places, faces: this.#faces }, events);
    this.#delete(read.needless);
    for (const key of read.damaged) this.#damaged(key);
    this.#cursor = read.remembered.cursor;
    return read.remembered;
  }

  /** The cursor goes along with each row of a conversation, so that it always speaks of the rows that are there. */
  #cursorAlong(): void {
    if (this.#cursor !== "") this.#writer?.putAlong(CURSOR, sealCursor(this.#cursor, this.#faces.sum));
  }

  /** Other clients on this store keep events, and let them go: what counts is what is there. */
  async #look(): Promise<void> {
    this.#keptSinceLook = 0;
    const writer = this.#writer;
    const keys = await writer?.keys("e/").catch(() => undefined);
    if (keys === undefined || writer !== this.#writer) return;
    this.#shelf.reload(keys);
    this.#delete(this.#shelf.clear());
  }

  #inTime<T>(asking: Promise<T>): Promise<T> {
    return within(this.#context.clock, TIMEOUT_MS, "the store", asking);
  }

  #damaged(key: string): void {
    this.#delete([key]);
    this.#context.failed(asError("store", `the row ${key} was damaged: it is fetched again`, undefined));
  }

  #delete(keys: readonly string[]): void {
    for (const key of keys) this.#put(key, undefined);
  }

  #put(key: string, row: string | undefined): void {
    this.#whenOpen((writer) => writer.put(key, row));
  }

  #whenOpen(act: (writer: Writer) => void): void {
    if (this.#erased) return;
    if (this.#writer === undefined) this.#early.push(act);
    else act(this.#writer);
  }
}

function prefixOf(owner: StoreOwner): string {
  return `parlance/${idPart(owner.appId)}/${idPart(owner.userId)}/`;
}
