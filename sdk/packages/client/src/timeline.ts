// One conversation as it is shown: its newest events and older ones as they are wanted, and own messages on their way.
import type { Cache } from "./cache/cache.js";
import type { ParlanceError } from "./errors.js";
import type { HistoryOptions } from "./history.js";
import type { ConversationEvent, HistoryPage, PendingMessage, SendResult } from "./model.js";
import type { Watchers } from "./watchers.js";

/** An own message that is on its way, or that failed. */
export interface ShownPending extends PendingMessage {
  /** Why it was not sent: `retry` it or `discard` it. */
  readonly error?: ParlanceError;
}

/** What is shown of a conversation at one moment; the same object until something changes. */
export interface TimelineSnapshot {
  readonly conversationId: string;
  /** In ascending seq, without gaps. */
  readonly events: readonly ConversationEvent[];
  /** Own messages that are no events yet, in the order in which they were sent. */
  readonly pending: readonly ShownPending[];
  /** There may be older events: `loadOlder`. */
  readonly more: boolean;
  readonly loading: boolean;
  /** Why the last `loadOlder` failed. */
  readonly error: ParlanceError | undefined;
}

/** What a timeline needs. */
export interface TimelineContext {
  readonly cache: Cache;
  readonly watchers: Watchers;
  history(options: HistoryOptions): Promise<HistoryPage>;
  /** Messages of this conversation on their way. */
  onTheWay(conversationId: string): readonly PendingMessage[];
  send(pending: PendingMessage): Promise<SendResult>;
  /** One that failed is not to be sent any more. */
  discarded(clientMessageId: string): void;
}

/** Events fetched at a time. */
const PAGE = 50;
/** Failed messages that are kept; the oldest go. */
const FAILED_MAX = 100;
/** Beyond so many events an old one goes for each new one; `loadOlder` still goes as far as it is called. */
const GROWN_MAX = 2_000;
/** So many timelines that nobody watches keep their events: those asked for last. */
const UNWATCHED_MAX = 50;

/** Made by `client.timeline()`, and the same for the same conversation. */
export class Timeline {
  readonly conversationId: string;
  readonly #context: TimelineContext;
  #events: ConversationEvent[] = [];
  /** A copy for those who look, until there are others. */
  #shown: readonly ConversationEvent[] | undefined;
  #failed: ShownPending[] = [];
  /** Another number whenever what comes below the events is no longer what it was. */
  #run = 0;
  #more = true;
  #loading = false;
  #error: ParlanceError | undefined;
  #snapshot: TimelineSnapshot | undefined;

  constructor(conversationId: string, context: TimelineContext) {
    this.conversationId = conversationId;
    this.#context = context;
  }

  /** Calls `listener` after changes; returns what stops it. While nobody listens no more than a page is kept. */
  readonly subscribe = (listener: () => void): (() => void) => {
    const { watchers } = this.#context;
    const stop = watchers.watch(this.#topic, listener);
    return () => {
      stop();
      if (!this.#watched) this.#trim();
    };
  };

  readonly snapshot = (): TimelineSnapshot => {
    this.#shown ??= [...this.#events];
    this.#snapshot ??= {
      conversationId: this.conversationId,
      events: this.#shown,
      pending: this.#pending(),
      more: this.#more,
      loading: this.#loading,
      error: this.#error,
    };
    return this.#snapshot;
  };

  /** Gets a page of older events, from the store or from the cluster. Never rejects: see `error` of the snapshot. */
  async loadOlder(): Promise<void> {
    if (this.#loading || !this.#more) return;
    this.#change({ loading: true, error: undefined });
    try {
      let run: number;
      do {
        run = this.#run;
        const page = await this.#older();
        if (run === this.#run) this.#join(page.events, page.more);
      } while (run !== this.#run && this.#watched);
      this.#change({ loading: false });
    } catch (cause) {
      const error = cause as ParlanceError;
      // A conversation that does not exist yet has no history.
      if (error.code === "not_found") this.#more = false;
      this.#change({ loading: false, error: error.code === "not_found" ? undefined : error });
    }
  }

  /** Sends one that failed again, with the same id: had it been stored after all, it is not stored twice. */
  retry(clientMessageId: string): Promise<SendResult> {
    const failed = this.#failed.find((other) => other.clientMessageId === clientMessageId);
    if (failed === undefined) return Promise.reject(new TypeError(`no message ${clientMessageId} has failed here`));
    this.#drop(clientMessageId);
    const { error: _, ...pending } = failed;
    return this.#context.send(pending);
  }

  /** Forgets one that failed: it is not sent in a later run either. */
  discard(clientMessageId: string): void {
    if (this.#drop(clientMessageId)) this.#context.discarded(clientMessageId);
  }

  /** The next event of the conversation. */
  delivered(event: ConversationEvent): void {
    const last = this.#events[this.#events.length - 1];
    if (last !== undefined && event.seq <= last.seq) return;
    // What lies between was never told: it is history from before the first log-in.
    if (last !== undefined && event.seq > last.seq + 1) this.reset();
    this.#events.push(event);
    if (this.#events.length > GROWN_MAX && !this.#loading) this.#keep(this.#events.length - 1);
    this.#shown = undefined;
    if (event.type === "message" && this.#failed.length > 0) this.discard(event.clientMessageId);
    if (!this.#watched) this.#trim();
    this.changed();
  }

  /** Forgets its events: they are not true any more, or nobody looks. Whoever watches sees the newest page come. */
  reset(): void {
    this.#keep(0);
    this.#error = undefined;
    this.changed();
    if (this.#watched) void this.loadOlder();
  }

  /** A message was not sent. */
  failed(pending: PendingMessage, error: ParlanceError): void {
    const others = this.#failed.filter((other) => other.clientMessageId !== pending.clientMessageId);
    this.#failed = [...others, { ...pending, error }].slice(-FAILED_MAX);
    this.changed();
  }

  /** It keeps events, and nobody watches them. */
  get unwatched(): boolean {
    return this.#events.length > 0 && !this.#watched;
  }

  /** Something of it is new. */
  changed(): void {
    this.#snapshot = undefined;
    this.#context.watchers.changed(this.#topic);
  }

  get #topic(): string {
    return `timeline ${this.conversationId}`;
  }

  /** False if it has not failed. */
  #drop(clientMessageId: string): boolean {
    const others = this.#failed.filter((other) => other.clientMessageId !== clientMessageId);
    const found = others.length < this.#failed.length;
    this.#failed = others;
    this.changed();
    return found;
  }

  get #watched(): boolean {
    return this.#context.watchers.watched(this.#topic);
  }

  /** What comes below the events that are there; the newest page if there are none. */
  async #older(): Promise<{ readonly events: readonly ConversationEvent[]; readonly more: boolean }> {
    const { cache, history } = this.#context;
    const { conversationId } = this;
    const first = this.#events[0]?.seq;
    if (first === 1) return { events: [], more: false };
    const kept = await cache.older(conversationId, first, PAGE);
    if (kept.length > 0) return { events: kept, more: true };
    const from = first === undefined ? {} : { startSeq: first - 1 };
    const page = await history({ conversationId, ...from, limit: PAGE });
    cache.keep(page.events);
    return page;
  }

  /** Joins a page to the events: they were delivered after it was asked for, or it lies right below them. */
  #join(page: readonly ConversationEvent[], more: boolean): void {
    const first = this.#events[0]?.seq ?? Number.POSITIVE_INFINITY;
    const last = this.#events[this.#events.length - 1]?.seq ?? 0;
    const from = page[0]?.seq ?? first;
    const to = page[page.length - 1]?.seq ?? first;
    // What was delivered since does not follow on it: it is asked for again from there.
    if (to < first - 1 && first < Number.POSITIVE_INFINITY) {
      this.#run += 1;
      return;
    }
    // While a client catches up, the newest page can lie above what was delivered: it is shown, and joins what follows.
    const apart = this.#events.length > 0 && from > last + 1;
    const older = page.filter((event) => event.seq < first);
    const newer = page.filter((event) => event.seq > last);
    this.#events = apart ? [...page] : [...older, ...this.#events, ...newer.filter((event) => event.seq > first)];
    this.#shown = undefined;
    if (apart || from <= first) this.#more = more && this.#events[0]?.seq !== 1;
  }

  #pending(): ShownPending[] {
    const onTheWay = this.#context.onTheWay(this.conversationId);
    const ids = new Set(onTheWay.map((pending) => pending.clientMessageId));
    return [...this.#failed.filter((failed) => !ids.has(failed.clientMessageId)), ...onTheWay];
  }

  #trim(): void {
    if (this.#events.length <= PAGE) return;
    this.#keep(PAGE);
    this.changed();
  }

  /** Lets all but the last events go. */
  #keep(count: number): void {
    this.#events = count === 0 ? [] : this.#events.slice(-count);
    this.#shown = undefined;
    this.#more = true;
    this.#run += 1;
  }

  #change(changes: { loading: boolean; error?: ParlanceError | undefined }): void {
    this.#loading = changes.loading;
    if ("error" in changes) this.#error = changes.error;
    this.changed();
  }
}

/** Timelines by conversation. */
export class Timelines {
  readonly #context: TimelineContext;
  readonly #timelines = new Map<string, Timeline>();

  constructor(context: TimelineContext) {
    this.#context = context;
  }

  of(conversationId: string): Timeline {
    const known = this.#timelines.get(conversationId);
    if (known !== undefined) {
      // The one asked for last is the last.
      this.#timelines.delete(conversationId);
      this.#timelines.set(conversationId, known);
      return known;
    }
    const timeline = new Timeline(conversationId, this.#context);
    const unwatched = [...this.#timelines.values()].filter((other) => other.unwatched);
    for (const other of unwatched.slice(0, -UNWATCHED_MAX)) other.reset();
    this.#timelines.set(conversationId, timeline);
    return timeline;
  }

  /** Its events are not true any more. */
  reset(conversationId: string): void {
    this.#timelines.get(conversationId)?.reset();
  }

  delivered(event: ConversationEvent): void {
    this.#timelines.get(event.conversationId)?.delivered(event);
  }

  /** Something is on its way, or no longer. */
  changed(conversationId: string): void {
    this.#timelines.get(conversationId)?.changed();
  }

  failed(conversationId: string, pending: PendingMessage, error: ParlanceError): void {
    if (error.code === "cancelled") return;
    this.#timelines.get(conversationId)?.failed(pending, error);
  }
}
