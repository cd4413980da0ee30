// Brings every event to the app, once and in order.
//
// After each log-in, and when the gateway says so, it lists the conversations, compares their heads with what was
// handed out, and fetches the difference from history. Pushes go straight through when they are next; others wait
// until the gap before them is fetched. At a user's first log-in a conversation starts at its head: what is older is
// history. A conversation that turns up later starts at 1.
import { Backoff, type BackoffOptions } from "./backoff.js";
import { Alarm, type Clock } from "./clock.js";
import type { Conversation, ConversationEvent, ConversationPage, HistoryPage, Session } from "./model.js";
import { asError, ClosedError, ParlanceError, UnavailableError } from "./errors.js";
import type { GapNotice } from "./events.js";
import type { RandomSource } from "./random.js";
import type { Store } from "./store.js";
import { PositionWriter } from "./sync/positions.js";
import { Sequence } from "./sync/sequence.js";

/** What synchronising needs. */
export interface SyncContext {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly backoff: BackoffOptions;
  readonly store: Store;
  readonly heldMax: number;
  list(after: string): Promise<ConversationPage>;
  history(conversationId: string, startSeq: number): Promise<HistoryPage>;
  /** Next event of its conversation. */
  deliver(event: ConversationEvent): void;
  /** What the cluster says of a conversation. */
  listed(conversation: Conversation): void;
  gap(notice: GapNotice): void;
  synced(session: Session): void;
  failed(error: ParlanceError): void;
}

/** Conversations fetched at the same time. */
const FETCHES_MAX = 4;
/** Pushes held until the first list says where their conversations begin. */
const EARLY_MAX = 1_000;

export class Sync {
  readonly #context: SyncContext;
  readonly #sequences = new Map<string, Sequence>();
  readonly #wanted = new Set<Sequence>();
  readonly #running = new Set<Sequence>();
  readonly #retry: Alarm;
  readonly #backoff: Backoff;
  #early: ConversationEvent[] = [];
  #writer: PositionWriter | undefined;
  #session: Session | undefined;
  #loaded = false;
  /** It is known where conversations start: unknown ones are new. */
  #based = false;
  #listing = false;
  #listAgain = false;
  #announce = false;
  #closed = false;

  constructor(context: SyncContext) {
    this.#context = context;
    this.#retry = new Alarm(context.clock);
    this.#backoff = new Backoff(context.backoff, context.random);
  }

  /** Logged in, or told to look again. */
  start(session: Session): void {
    this.#session = session;
    this.#announce = true;
    this.#retry.stop();
    this.#backoff.reset();
    this.refresh();
    this.#pump();
  }

  /** Lists the conversations, again if that is going on already. */
  refresh(): void {
    if (this.#closed) return;
    this.#listAgain = true;
    if (!this.#listing) void this.#listAll();
  }

  /** After `close`: the next `start` goes on where it ended. */
  open(): void {
    this.#closed = false;
  }

  close(): void {
    this.#closed = true;
    this.#retry.stop();
  }

  /** An event from a push, or from the acknowledgement of an own message. */
  push(event: ConversationEvent): void {
    if (this.#closed) return;
    const known = this.#sequences.get(event.conversationId);
    if (known === undefined && !this.#based) {
      if (this.#early.length < EARLY_MAX) this.#early.push(event);
      // Dropped, and perhaps newer than the list that is under way: the next list shows it.
      else this.#listAgain = true;
      return;
    }
    const sequence = known ?? this.#begin(event.conversationId, 1);
    this.#deliver(sequence, sequence.accept(event));
    this.#want(sequence);
  }

  async #listAll(): Promise<void> {
    this.#listing = true;
    try {
      while (this.#listAgain && !this.#closed) {
        this.#listAgain = false;
        await this.#load();
        let after = "";
        do {
          const page = await this.#context.list(after);
          if (this.#closed) return;
          for (const conversation of page.conversations) this.#compare(conversation);
          after = page.nextAfter;
        } while (after !== "");
        this.#base();
      }
      this.#backoff.reset();
    } catch (error) {
      this.#listAgain = true;
      this.#later(error);
    } finally {
      this.#listing = false;
    }
    this.#settled();
  }

  /** What an earlier run left in the store, once. */
  async #load(): Promise<void> {
    const session = this.#session;
    if (this.#loaded || session === undefined) return;
    let stored: ReadonlyMap<string, number> | undefined;
    try {
      stored = await this.#context.store.load(session);
    } catch (cause) {
      // Going on without positions would turn what was missed into history, silently.
      throw asError("store", "the store failed to load positions", cause);
    }
    this.#loaded = true;
    this.#writer = new PositionWriter(this.#context.store, session, (error) => this.#context.failed(error));
    if (stored === undefined) return;
    for (const [conversationId, seq] of stored) this.#begin(conversationId, seq + 1);
    this.#base();
  }

  #compare(conversation: Conversation): void {
    const { conversationId, headSeq } = conversation;
    this.#context.listed(conversation);
    let sequence = this.#sequences.get(conversationId);
    if (sequence === undefined) {
      const early = this.#early.filter((event) => event.conversationId === conversationId);
      this.#early = this.#early.filter((event) => event.conversationId !== conversationId);
      // What was pushed after the log-in is news, even if the list counts it already.
      const first = Math.min(headSeq + 1, ...early.map((event) => event.seq));
      sequence = this.#begin(conversationId, this.#based ? 1 : first);
      for (const event of early) this.#deliver(sequence, sequence.accept(event));
      if (sequence.next > 1) this.#writer?.note(conversationId, sequence.next - 1);
    }
    sequence.expect(headSeq);
    this.#want(sequence);
  }

  #base(): void {
    this.#based = true;
    this.#writer?.flush();
    const early = this.#early;
    this.#early = [];
    for (const event of early) this.push(event);
  }

  #begin(conversationId: string, next: number): Sequence {
    const sequence = new Sequence(conversationId, next, this.#context.heldMax);
    this.#sequences.set(conversationId, sequence);
    return sequence;
  }

  #deliver(sequence: Sequence, events: readonly ConversationEvent[]): void {
    for (const event of events) this.#context.deliver(event);
    const last = events[events.length - 1];
    if (last !== undefined) this.#writer?.note(sequence.conversationId, last.seq);
  }

  #want(sequence: Sequence): void {
    if (!sequence.behind || this.#wanted.has(sequence)) return;
    this.#wanted.add(sequence);
    this.#pump();
  }

  #pump(): void {
    if (this.#retry.running) return;
    for (const sequence of this.#wanted) {
      if (this.#running.size >= FETCHES_MAX) return;
      if (this.#running.has(sequence)) continue;
      this.#running.add(sequence);
      void this.#fetch(sequence);
    }
  }

  async #fetch(sequence: Sequence): Promise<void> {
    try {
      while (sequence.behind && !this.#closed) {
        const from = sequence.next;
        const page = await this.#context.history(sequence.conversationId, from);
        if (this.#closed) return;
        this.#take(sequence, from, page);
      }
      this.#wanted.delete(sequence);
      this.#backoff.reset();
    } catch (error) {
      // Retrying what is refused for good would never end.
      if (error instanceof ParlanceError && !error.retryable) this.#wanted.delete(sequence);
      this.#later(error);
    } finally {
      this.#running.delete(sequence);
    }
    this.#pump();
    this.#settled();
  }

  #take(sequence: Sequence, from: number, page: HistoryPage): void {
    sequence.expect(page.headSeq);
    if (page.events.length === 0 && page.headSeq < from) {
      if (sequence.next > from) return;
      throw new UnavailableError("unavailable", "history ends before an event that was pushed", { retryable: true });
    }
    const first = page.events[0]?.seq ?? page.headSeq + 1;
    if (first > from && sequence.next < first) this.#skip(sequence, first);
    for (const event of page.events) this.#deliver(sequence, sequence.accept(event));
  }

  #skip(sequence: Sequence, first: number): void {
    const { conversationId, next } = sequence;
    const ready = sequence.skipTo(first);
    this.#context.gap({ conversationId, fromSeq: next, toSeq: first - 1 });
    this.#writer?.note(conversationId, first - 1);
    this.#deliver(sequence, ready);
  }

  #later(cause: unknown): void {
    // What was under way when it was closed is begun anew by the next `start`.
    if (this.#closed || cause instanceof ClosedError) return;
    this.#context.failed(asError("unavailable", "events could not be fetched", cause));
    if (this.#retry.running) return;
    this.#retry.start(this.#backoff.next(), () => {
      if (this.#listAgain) this.refresh();
      this.#pump();
    });
  }

  #settled(): void {
    if (!this.#announce || this.#listing || this.#listAgain || this.#wanted.size > 0 || !this.#based) return;
    this.#announce = false;
    if (this.#session !== undefined && !this.#closed) this.#context.synced(this.#session);
  }
}
