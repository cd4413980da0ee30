// One conversation as it is shown: its newest events and older ones as they are wanted, and own messages on their way.
import type { Cache } from "./cache/cache.js";
import type { CancelSignal } from "./cancel.js";
import { ClosedError, type ParlanceError } from "./errors.js";
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
  send(pending: PendingMessage, signal?: CancelSignal): Promise<SendResult>;
}

/** Events fetched at a time. */
const PAGE = 50;
/** Failed messages that are kept; the oldest go. */
const FAILED_MAX = 100;

/** Made by `client.timeline()`, and the same for the same conversation. */
export class Timeline {
  readonly conversationId: string;
  readonly #context: TimelineContext;
  #events: ConversationEvent[] = [];
  /** A copy for those who look, until there are others. */
  #shown: readonly ConversationEvent[] | undefined;
  #failed: ShownPending[] = [];
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
      if (!watchers.watched(this.#topic)) this.#trim();
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
      this.#add(await this.#older());
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
    this.discard(clientMessageId);
    const { error: _, ...pending } = failed;
    return this.#context.send(pending);
  }

  /** Forgets one that failed. */
  discard(clientMessageId: string): void {
    this.#failed = this.#failed.filter((other) => other.clientMessageId !== clientMessageId);
    this.changed();
  }

  /** The next event of the conversation. */
  delivered(event: ConversationEvent): void {
    const last = this.#events[this.#events.length - 1];
    if (last !== undefined && event.seq <= last.seq) return;
    this.#events.push(event);
    this.#shown = undefined;
    if (event.type === "message" && this.#failed.length > 0) this.discard(event.clientMessageId);
    if (!this.#context.watchers.watched(this.#topic)) this.#trim();
    this.changed();
  }

  /** A message was not sent. */
  failed(pending: PendingMessage, error: ParlanceError): void {
    const others = this.#failed.filter((other) => other.clientMessageId !== pending.clientMessageId);
    const { target, clientMessageId, content, timeMs } = pending;
    this.#failed = [...others, { target, clientMessageId, content, timeMs, error }].slice(-FAILED_MAX);
    this.changed();
  }

  /** Something of it is new. */
  changed(): void {
    this.#snapshot = undefined;
    this.#context.watchers.changed(this.#topic);
  }

  get #topic(): string {
    return `timeline ${this.conversationId}`;
  }

  async #older(): Promise<readonly ConversationEvent[]> {
    const { cache, history } = this.#context;
    const { conversationId } = this;
    const first = this.#events[0]?.seq;
    if (first === 1) {
      this.#more = false;
      return [];
    }
    const kept = await cache.older(conversationId, first, PAGE);
    if (kept.length > 0) return kept;
    const from = first === undefined ? {} : { startSeq: first - 1 };
    const page = await history({ conversationId, ...from, limit: PAGE });
    cache.keep(page.events);
    this.#more = page.more;
    return page.events;
  }

  /** What is older than what is there, or all if nothing is. */
  #add(events: readonly ConversationEvent[]): void {
    const first = this.#events[0]?.seq ?? Number.POSITIVE_INFINITY;
    const last = this.#events[this.#events.length - 1]?.seq ?? 0;
    const older = events.filter((event) => event.seq < first);
    const newer = events.filter((event) => event.seq > last && event.seq >= first);
    this.#events = [...older, ...this.#events, ...newer];
    this.#shown = undefined;
    if (this.#events[0]?.seq === 1) this.#more = false;
  }

  #pending(): ShownPending[] {
    const onTheWay = this.#context.onTheWay(this.conversationId);
    const ids = new Set(onTheWay.map((pending) => pending.clientMessageId));
    return [...this.#failed.filter((failed) => !ids.has(failed.clientMessageId)), ...onTheWay];
  }

  #trim(): void {
    if (this.#events.length <= PAGE) return;
    this.#events = this.#events.slice(-PAGE);
    this.#shown = undefined;
    this.#more = true;
    this.changed();
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
    const timeline = this.#timelines.get(conversationId) ?? new Timeline(conversationId, this.#context);
    this.#timelines.set(conversationId, timeline);
    return timeline;
  }

  delivered(event: ConversationEvent): void {
    this.#timelines.get(event.conversationId)?.delivered(event);
  }

  /** Something is on its way, or no longer. */
  changed(conversationId: string): void {
    this.#timelines.get(conversationId)?.changed();
  }

  failed(conversationId: string, pending: PendingMessage, error: ParlanceError): void {
    if (error instanceof ClosedError || error.code === "cancelled") return;
    this.#timelines.get(conversationId)?.failed(pending, error);
  }
}
