// Sends until they are acknowledged. Each conversation has its lane, and lanes do not wait for each other. Whatever
// becomes of a send (a lost connection, an outcome that nobody knows), it can be tried again with the same id.
import { type CancelSignal, onCancel } from "./cancel.js";
import { Alarm, type Clock, type ClusterTime } from "./clock.js";
import type { BackoffOptions } from "./backoff.js";
import type { SendResponse } from "./gen/parlance/client/v1/message.js";
import { type ClosedError, ParlanceError, QueueFullError, TimedOutError } from "./errors.js";
import type { ConversationMessage, PendingMessage, SendResult, Session } from "./model.js";
import { contentProblem, conversationOf, type Item, plain } from "./outbox/item.js";
import { Lane } from "./outbox/lane.js";
import type { RandomSource } from "./random.js";
import type { Requests } from "./requests.js";
import { ORDERED_SENDS } from "./version.js";

/** What an outbox needs. */
export interface OutboxContext {
  readonly clock: Clock;
  readonly time: ClusterTime;
  readonly random: RandomSource;
  readonly backoff: BackoffOptions;
  readonly timeoutMs: number;
  readonly max: number;
  /** Sends of one conversation that may be on their way together, where the gateway keeps their order. */
  readonly aheadMax: number;
  readonly requests: Requests;
  /** Whose messages these are, as soon as it is known. */
  readonly userId: () => string | undefined;
  /** The gateway leaves out the echo to the session that sent: the event comes from its acknowledgement. */
  stored(event: ConversationMessage): void;
  /** It is to be remembered until `settled`, as it is now. */
  sending(message: PendingMessage): void;
  settled(clientMessageId: string): void;
  /** It is to be shown as one that failed. */
  failed(pending: PendingMessage, error: ParlanceError): void;
  /** One from an earlier run failed: there is no promise to say so. */
  unsent(pending: PendingMessage, error: ParlanceError): void;
  /** Something in this conversation's lane is new or gone. */
  changed(conversationId: string): void;
}

/** The cluster knows a message's id for at least a day: one that may have been stored before that is not sent again. */
const RESEND_MS_MAX = 20 * 3_600_000;

export class Outbox {
  readonly #context: OutboxContext;
  readonly #lanes = new Map<string, Lane>();
  /** Sends from before the first log-in: without a user there are no conversation ids. */
  #unrouted: Item[] = [];
  #count = 0;
  #session: Session | undefined;
  #closed: ClosedError | undefined;

  constructor(context: OutboxContext) {
    this.#context = context;
  }

  send(pending: PendingMessage, signal?: CancelSignal): Promise<SendResult> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) throw this.#closed;
      if (this.#count >= this.#context.max) {
        const full = new QueueFullError(`${this.#context.max} sends are waiting for their acknowledgement already`);
        this.#context.failed(pending, full);
        throw full;
      }
      let forget = (): void => {};
      const item = this.#item(
        { ...pending, restored: false },
        (result) => {
          forget();
          resolve(result);
        },
        (error) => {
          forget();
          this.#context.failed(plain(item), error);
          reject(error);
        },
      );
      forget = onCancel(signal, (error) => this.#giveUp(item, error));
      // From here on nothing throws.
      this.#count += 1;
      this.#limit(item);
      this.#context.sending(item);
      if (this.#session === undefined) this.#wait(item);
      else this.#route(item, this.#session);
      this.pump();
    });
  }

  /** What an earlier run left unsent goes before all that waits now. */
  restore(unsent: readonly PendingMessage[]): void {
    if (this.#closed !== undefined) return;
    const known = new Set(this.#items().map((item) => item.clientMessageId));
    const items: Item[] = [];
    for (const message of unsent) {
      if (known.has(message.clientMessageId)) continue;
      known.add(message.clientMessageId);
      const item: Item = this.#item(
        { ...message, restored: true },
        () => {},
        (error) => this.#context.unsent(plain(item), error),
      );
      items.push(item);
    }
    this.#count += items.length;
    const session = this.#session;
    if (session === undefined) this.#unrouted.unshift(...items);
    else for (const item of items) this.#route(item, session);
    for (const item of items) this.#told(item);
    this.pump();
  }

  /** Logged in: what waits goes out, in order. */
  online(session: Session): void {
    this.#session = session;
    const unrouted = this.#unrouted;
    this.#unrouted = [];
    for (const item of unrouted) this.#route(item, session);
    this.pump();
  }

  /** After `close`: takes new ones again. */
  open(): void {
    this.#closed = undefined;
  }

  /**
   * Ends. What the app sent and closed over is over. What an earlier run left, and after a close by the cluster all of
   * it, stays to be sent in the next run.
   */
  close(error: ClosedError): void {
    this.#closed = error;
    const cause = error.cause instanceof ParlanceError ? error.cause : undefined;
    const items = this.#items();
    for (const lane of this.#lanes.values()) lane.stop();
    this.#unrouted = [];
    this.#lanes.clear();
    this.#session = undefined;
    for (const item of items) {
      if (cause === undefined && !item.restored) item.reject(error);
      else this.#leave(item, error, cause);
    }
  }

  /** What waits for its acknowledgement in a conversation, in order. */
  pending(conversationId: string): PendingMessage[] {
    const userId = this.#context.userId();
    const here = (item: Item): boolean => userId !== undefined && conversationOf(item, userId) === conversationId;
    const items = [...(this.#lanes.get(conversationId)?.items ?? []), ...this.#unrouted.filter(here)];
    return items.filter((item) => !item.done);
  }

  /** Hands out what there is room for, one of each conversation in turns: those that were served are behind the rest. */
  pump(): void {
    for (const [conversationId, lane] of this.#lanes) {
      lane.tidy();
      if (lane.empty) this.#lanes.delete(conversationId);
    }
    for (let moved = true; moved; ) {
      moved = false;
      for (const [conversationId, lane] of [...this.#lanes]) {
        if (!this.#context.requests.hasRoom) return;
        if (!lane.next()) continue;
        moved = true;
        if (this.#lanes.get(conversationId) !== lane) continue;
        this.#lanes.delete(conversationId);
        this.#lanes.set(conversationId, lane);
      }
    }
  }

  #items(): Item[] {
    const items = [...this.#unrouted];
    for (const lane of this.#lanes.values()) items.push(...lane.items);
    return items;
  }

  /** Nothing happens yet. */
  #item(
    message: PendingMessage & { readonly restored: boolean },
    resolve: (result: SendResult) => void,
    reject: (error: ParlanceError) => void,
  ): Item {
    const settle = (act: () => void): void => {
      if (!this.#done(item)) return;
      this.#context.settled(item.clientMessageId);
      act();
      this.#told(item);
    };
    const item: Item = {
      ...message,
      deadline: new Alarm(this.#context.clock),
      posted: false,
      done: false,
      error: undefined,
      resolve: (result) => settle(() => resolve(result)),
      reject: (error) => settle(() => reject(error)),
      tell: reject,
    };
    return item;
  }

  #limit(item: Item): void {
    const { timeoutMs } = this.#context;
    item.deadline.start(timeoutMs, () =>
      this.#giveUp(item, new TimedOutError(`not acknowledged within ${timeoutMs} ms`, item.error)),
    );
  }

  /** False if it was done before. */
  #done(item: Item): boolean {
    if (item.done) return false;
    item.done = true;
    item.deadline.stop();
    this.#count -= 1;
    return true;
  }

  /** It is over for this run, and stays for the next. */
  #leave(item: Item, error: ClosedError, cause: ParlanceError | undefined): void {
    if (!this.#done(item)) return;
    if (!item.restored) item.tell(error);
    else if (cause !== undefined) this.#context.failed(plain(item), cause);
    this.#told(item);
  }

  #route(item: Item, session: Session): void {
    if (item.done) return;
    const problem = contentProblem(item.content, session.limits.contentBytesMax);
    if (problem !== undefined) return item.reject(problem);
    // The time of what an earlier run left counts from here on: nobody could do anything before.
    if (!item.deadline.running) this.#limit(item);
    const conversationId = conversationOf(item, session.userId);
    const lane = this.#lanes.get(conversationId) ?? this.#lane();
    this.#lanes.set(conversationId, lane);
    lane.add(item);
    this.#context.changed(conversationId);
  }

  /** False if it went out so long ago that the cluster may know its id no longer. */
  #leaves(item: Item): boolean {
    const now = this.#context.time.now();
    if (item.left && now - item.timeMs > RESEND_MS_MAX) {
      item.reject(new TimedOutError("too old to be sent again with the same id: it may have been stored"));
      return false;
    }
    if (item.left) return true;
    item.left = true;
    item.timeMs = now;
    this.#context.sending(item);
    return true;
  }

  #lane(): Lane {
    return new Lane({
      ...this.#context,
      ahead: () => ((this.#session?.capabilities ?? []).indexOf(ORDERED_SENDS) < 0 ? 1 : this.#context.aheadMax),
      leaves: (item) => this.#leaves(item),
      acknowledged: (item, answer) => this.#acknowledged(item, answer),
      moved: () => this.pump(),
    });
  }

  #acknowledged(item: Item, answer: SendResponse): void {
    const { conversationId, seq, timeMs, duplicate } = answer;
    const { clientMessageId, content } = item;
    const sender = this.#session?.userId ?? "";
    this.#context.stored({ type: "message", conversationId, seq, timeMs, sender, clientMessageId, content });
    item.resolve({ conversationId, seq, timeMs, clientMessageId, duplicate });
  }

  #giveUp(item: Item, error: ParlanceError): void {
    item.reject(error);
    this.#unrouted = this.#unrouted.filter((other) => other !== item);
    this.pump();
  }

  #wait(item: Item): void {
    this.#unrouted.push(item);
    this.#told(item);
  }

  #told(item: Item): void {
    const userId = this.#context.userId();
    if (userId !== undefined) this.#context.changed(conversationOf(item, userId));
  }
}
