// Brings every event to the app, once and in order.
//
// After each log-in, and when the gateway says so, it lists what changed, compares the heads with what was handed out, and
// fetches the difference from history. Pushes go straight through when they are next; others wait until the gap before
// them is fetched. At a user's first log-in a conversation starts at its head: what is older is history. A conversation
// that turns up later starts at 1.
import type { BackoffOptions } from "./backoff.js";
import type { Cache } from "./cache/cache.js";
import type { Remembered } from "./cache/remembered.js";
import { Alarm, type Clock } from "./clock.js";
import { asError, ClosedError, type ParlanceError, UnavailableError } from "./errors.js";
import type { GapNotice } from "./events.js";
import { readPiece } from "./history.js";
import type { Conversation, ConversationEvent, HistoryPage, Session } from "./model.js";
import { fraction, type RandomSource } from "./random.js";
import type { Requests } from "./requests.js";
import { Early } from "./sync/early.js";
import { Fetcher } from "./sync/fetcher.js";
import { HeldBytes } from "./sync/held.js";
import { Lister } from "./sync/lister.js";
import { Sequence } from "./sync/sequence.js";

/** What synchronising needs. */
export interface SyncContext {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly backoff: BackoffOptions;
  readonly cache: Cache;
  readonly heldMax: number;
  readonly heldBytesMax: number;
  readonly requests: Requests;
  /** What an earlier run left; rejects when that cannot be read now. */
  recall(session: Session): Promise<Remembered>;
  /** Next event of its conversation. */
  deliver(event: ConversationEvent): void;
  /** What the cluster says of a conversation. */
  listed(conversation: Conversation): void;
  /** The cluster does not have what was seen of it. */
  forgotten(conversationId: string): void;
  gap(notice: GapNotice): void;
  synced(session: Session): void;
  failed(error: ParlanceError): void;
}

export class Sync {
  readonly #context: SyncContext;
  readonly #sequences = new Map<string, Sequence>();
  readonly #fetcher: Fetcher;
  readonly #lister: Lister;
  readonly #resync: Alarm;
  readonly #held: HeldBytes;
  readonly #early: Early;
  /** Positions of an earlier run that the cluster has not confirmed yet. */
  readonly #unconfirmed = new Set<string>();
  /** As an earlier run showed them, until the first list. */
  #shown: readonly Conversation[] = [];
  #session: Session | undefined;
  #loaded = false;
  /** It is known where conversations start: unknown ones are new. */
  #based = false;
  #listing = false;
  #listAgain = false;
  /** The cursor that the store was given. */
  #kept = "";
  #announce = false;
  #closed = false;

  constructor(context: SyncContext) {
    this.#context = context;
    this.#held = new HeldBytes(context.heldBytesMax);
    this.#early = new Early(this.#held);
    this.#resync = new Alarm(context.clock);
    this.#fetcher = new Fetcher({
      ...context,
      history: (sequence, on) => this.#history(sequence, on),
      take: (sequence, from, page) => this.#take(sequence, from, page),
      progress: () => this.#settled(),
      failed: (cause) => this.#later(cause),
      retry: () => {
        if (this.#listAgain || this.#lister.wants) this.#look();
      },
    });
    const { pace } = this.#fetcher;
    this.#lister = new Lister({
      requests: context.requests,
      bytes: () => pace.bytes,
      late: () => pace.slow(),
      take: (conversation) => this.#compare(conversation),
      failed: (error) => context.failed(error),
    });
  }

  /** Bytes that one answer may have on this line. */
  get pageBytes(): number {
    return this.#fetcher.pace.bytes;
  }

  /** Logged in. */
  start(session: Session): void {
    this.#session = session;
    this.#lookAgain();
  }

  /** Told to look again, after a random part of the delay: others were told at the same moment. */
  resync(withinMs: number): void {
    if (this.#session === undefined || this.#resync.running) return;
    const wait = Math.floor(fraction(this.#context.random) * withinMs);
    if (wait === 0) this.#lookAgain();
    else this.#resync.start(wait, () => this.#lookAgain());
  }

  /** Asks the cluster where a conversation stands. */
  ask(conversationId: string): void {
    this.#lister.want(conversationId);
    this.#look();
  }

  /** The connection broke. */
  lost(): void {
    this.#resync.stop();
    this.#fetcher.lost();
  }

  /** After `close`: the next `start` goes on where it ended. */
  open(): void {
    this.#closed = false;
    this.#lister.open();
  }

  close(): void {
    this.#closed = true;
    this.#lister.close();
    this.#resync.stop();
    this.#fetcher.stop();
  }

  /** An event from a push, or from the acknowledgement of an own message. */
  push(event: ConversationEvent): void {
    if (this.#closed) return;
    const known = this.#sequences.get(event.conversationId);
    if (known === undefined && !this.#based) {
      // One that is dropped may be newer than the list that is under way: the next list shows it.
      if (!this.#early.keep(event)) this.#listAgain = true;
      return;
    }
    const sequence = known ?? this.#begin(event.conversationId, 1);
    this.#deliver(sequence, sequence.accept(event));
    this.#fetcher.want(sequence);
  }

  #lookAgain(): void {
    this.#announce = true;
    this.#resync.stop();
    this.#fetcher.start();
    this.#listAgain = true;
    this.#look();
  }

  /** Lists and asks until nothing is left to ask. */
  #look(): void {
    if (!this.#closed && !this.#listing && this.#session !== undefined) void this.#lookNow();
  }

  async #lookNow(): Promise<void> {
    this.#listing = true;
    try {
      while ((this.#listAgain || this.#lister.wants) && !this.#closed) {
        if (this.#listAgain) await this.#list();
        await this.#lister.ask();
        if (this.#closed) return;
        this.#base();
        this.#fetcher.worked();
      }
    } catch (error) {
      this.#later(error);
    } finally {
      this.#listing = false;
    }
    this.#settled();
  }

  async #list(): Promise<void> {
    // One that broke off goes on where it was, and then comes what changed since it began.
    this.#listAgain = this.#lister.brokeOff;
    try {
      await this.#load();
      const whole = await this.#lister.list();
      // The list of another cluster lacks them, and so does one that has not heard of them yet.
      if (whole === true) for (const conversationId of this.#unconfirmed) this.#lister.want(conversationId);
      // Where a cursor counts, positions do.
      if (whole === false) {
        this.#unconfirmed.clear();
        for (const { conversationId, headSeq } of this.#shown) this.#sequences.get(conversationId)?.expect(headSeq);
      }
      if (whole === undefined) return;
      this.#shown = [];
      this.#wantAgain();
    } catch (error) {
      this.#listAgain = true;
      throw error;
    }
  }

  /** A list that says what changed is silent about what was refused, or broke off, after an earlier one. */
  #wantAgain(): void {
    for (const [conversationId, sequence] of this.#sequences) {
      if (!this.#unconfirmed.has(conversationId)) this.#fetcher.want(sequence);
    }
  }

  #history(sequence: Sequence, on: { asked(): void; late(): void }): Promise<HistoryPage> {
    const { conversationId, next } = sequence;
    const limit = this.#session?.limits.historyEventsMax ?? 50;
    const options = { conversationId, startSeq: next, limit, direction: "forward" } as const;
    const maxBytes = (): number => {
      on.asked();
      return this.pageBytes;
    };
    return readPiece(this.#context.requests, options, maxBytes, { late: on.late, once: true });
  }

  /** What an earlier run left in the store, once. */
  async #load(): Promise<void> {
    const session = this.#session;
    if (this.#loaded || session === undefined) return;
    const { positions, based, cursor, conversations } = await this.#context.recall(session);
    this.#loaded = true;
    this.#kept = cursor;
    for (const [conversationId, seq] of positions) {
      this.#begin(conversationId, seq + 1);
      this.#unconfirmed.add(conversationId);
    }
    if (!based) return this.#context.cache.begun();
    this.#lister.resume(cursor);
    // As long as the cursor counts, so does what was shown: no list names it again.
    if (cursor !== "") this.#shown = conversations;
    this.#based = true;
    this.#takeEarly();
  }

  #compare(conversation: Conversation): void {
    const { conversationId, headSeq } = conversation;
    if (headSeq < (this.#sequences.get(conversationId)?.next ?? 0) - 1 && this.#unconfirmed.has(conversationId)) {
      this.#startOver(conversationId);
    }
    this.#unconfirmed.delete(conversationId);
    let sequence = this.#sequences.get(conversationId);
    if (headSeq === 0 && sequence === undefined) return;
    this.#context.listed(conversation);
    if (sequence === undefined) {
      const early = this.#early.take(conversationId);
      // What was pushed after the log-in is news, even if the list counts it already.
      const first = Math.min(headSeq + 1, ...early.map((event) => event.seq));
      sequence = this.#begin(conversationId, this.#based ? 1 : first);
      for (const event of early) this.#deliver(sequence, sequence.accept(event));
      if (sequence.next > 1) this.#context.cache.position(conversationId, sequence.next - 1);
    }
    sequence.expect(headSeq);
    this.#fetcher.want(sequence);
  }

  /**
   * What an earlier run has seen of it is more than there is: these are the messages of another cluster, or of this one
   * before it was set up anew. Nothing that comes now was seen.
   */
  #startOver(conversationId: string): void {
    this.#unconfirmed.delete(conversationId);
    this.#sequences.delete(conversationId);
    this.#context.cache.forget(conversationId);
    this.#context.forgotten(conversationId);
  }

  #base(): void {
    if (this.#based) return;
    this.#based = true;
    this.#context.cache.based();
    this.#takeEarly();
  }

  #takeEarly(): void {
    for (const event of this.#early.take()) this.push(event);
  }

  #begin(conversationId: string, next: number): Sequence {
    const sequence = new Sequence(conversationId, next, this.#context.heldMax, this.#held);
    this.#sequences.set(conversationId, sequence);
    return sequence;
  }

  #deliver(sequence: Sequence, events: readonly ConversationEvent[]): void {
    for (const event of events) this.#context.deliver(event);
    const last = events[events.length - 1];
    if (last === undefined) return;
    this.#unconfirmed.delete(sequence.conversationId);
    this.#context.cache.keep(events);
    this.#context.cache.position(sequence.conversationId, last.seq);
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
    this.#context.cache.position(conversationId, first - 1);
    this.#deliver(sequence, ready);
  }

  #later(cause: unknown): void {
    // What was under way when it was closed is begun anew by the next `start`.
    if (this.#closed || cause instanceof ClosedError) return;
    const error = asError("unavailable", "events could not be fetched", cause);
    this.#context.failed(error);
    this.#fetcher.later(error.retryAfterMs);
  }

  #settled(): void {
    if (this.#listing || this.#listAgain || this.#lister.wants || !this.#fetcher.idle || !this.#based) return;
    this.#keepCursor();
    if (!this.#announce) return;
    this.#announce = false;
    if (this.#session !== undefined && !this.#closed) this.#context.synced(this.#session);
  }

  /** Everything that changed before the cursor was handed out, unless some of it was refused for good. */
  #keepCursor(): void {
    const { cursor } = this.#lister;
    if (cursor === this.#kept || [...this.#sequences.values()].some((sequence) => sequence.behind)) return;
    this.#kept = cursor;
    this.#context.cache.cursor(cursor);
  }
}
