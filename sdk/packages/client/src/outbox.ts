// Sends until they are acknowledged. Each conversation has its lane, and lanes do not wait for each other. Whatever
// becomes of a send (a lost connection, an outcome that nobody knows), it can be tried again with the same id.
import { type CancelSignal, onCancel } from "./cancel.js";
import { Alarm, type Clock } from "./clock.js";
import type { BackoffOptions } from "./backoff.js";
import type { SendResponse } from "./gen/parlance/client/v1/message.js";
import { type ClosedError, type ParlanceError, QueueFullError, RequestError, TimedOutError } from "./errors.js";
import { directConversationId } from "./ids.js";
import type { Content, ConversationMessage, PendingMessage, SendResult, Session } from "./model.js";
import { type Item, Lane } from "./outbox/lane.js";
import type { RandomSource } from "./random.js";
import type { Requests } from "./requests.js";
import { encodeUtf8 } from "./utf8.js";
import { ORDERED_SENDS } from "./version.js";

/** What an outbox needs. */
export interface OutboxContext {
  readonly clock: Clock;
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
  /** It is to be remembered until `settled`. */
  sending(pending: PendingMessage): void;
  settled(pending: PendingMessage): void;
  /** One from an earlier run failed: there is no promise to say so. */
  unsent(pending: PendingMessage, error: ParlanceError): void;
  /** Something in this conversation's lane is new or gone. */
  changed(conversationId: string): void;
}

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
        throw new QueueFullError(`${this.#context.max} sends are waiting for their acknowledgement already`);
      }
      const item = this.#item(pending, resolve, reject);
      const forget = onCancel(signal, (error) => this.#giveUp(item, error));
      const { resolve: resolved, reject: rejected } = item;
      item.resolve = (result) => {
        forget();
        resolved(result);
      };
      item.reject = (error) => {
        forget();
        rejected(error);
      };
      this.#context.sending(pending);
      if (this.#session === undefined) this.#wait(item);
      else this.#route(item, this.#session);
      this.pump();
    });
  }

  /** What an earlier run left unsent goes before all that waits now. */
  restore(unsent: readonly PendingMessage[]): void {
    const known = new Set(this.#items().map((item) => item.clientMessageId));
    const fresh = unsent.filter((pending) => !known.has(pending.clientMessageId));
    const items = fresh.map((pending) =>
      this.#item(
        pending,
        () => {},
        (error) => this.#context.unsent(pending, error),
      ),
    );
    this.#unrouted.unshift(...items);
    for (const item of items) this.#told(item);
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

  close(error: ClosedError): void {
    this.#closed = error;
    const items = this.#items();
    for (const lane of this.#lanes.values()) lane.stop();
    this.#unrouted = [];
    this.#lanes.clear();
    for (const item of items) item.reject(error);
  }

  /** What waits for its acknowledgement in a conversation, in order. */
  pending(conversationId: string): PendingMessage[] {
    const userId = this.#context.userId();
    const here = (item: Item): boolean => userId !== undefined && conversationOf(item, userId) === conversationId;
    const items = [...(this.#lanes.get(conversationId)?.items ?? []), ...this.#unrouted.filter(here)];
    return items.filter((item) => !item.done);
  }

  /** Hands out what there is room for. */
  pump(): void {
    for (const [conversationId, lane] of this.#lanes) {
      lane.tidy();
      if (lane.empty) this.#lanes.delete(conversationId);
      else if (this.#context.requests.hasRoom) lane.pump();
    }
  }

  #items(): Item[] {
    const items = [...this.#unrouted];
    for (const lane of this.#lanes.values()) items.push(...lane.items);
    return items;
  }

  #item(pending: PendingMessage, resolve: (result: SendResult) => void, reject: (error: ParlanceError) => void): Item {
    const { timeoutMs, clock } = this.#context;
    const settle = (act: () => void): void => {
      if (item.done) return;
      item.done = true;
      item.deadline.stop();
      this.#count -= 1;
      this.#context.settled(pending);
      act();
      this.#told(item);
    };
    const item: Item = {
      ...pending,
      deadline: new Alarm(clock),
      posted: false,
      done: false,
      error: undefined,
      resolve: (result) => settle(() => resolve(result)),
      reject: (error) => settle(() => reject(error)),
    };
    item.deadline.start(timeoutMs, () =>
      this.#giveUp(item, new TimedOutError(`not acknowledged within ${timeoutMs} ms`, item.error)),
    );
    this.#count += 1;
    return item;
  }

  #route(item: Item, session: Session): void {
    if (item.done) return;
    const tooLarge = contentProblem(item.content, session.limits.contentBytesMax);
    if (tooLarge !== undefined) return item.reject(tooLarge);
    const conversationId = conversationOf(item, session.userId);
    const lane = this.#lanes.get(conversationId) ?? this.#lane();
    this.#lanes.set(conversationId, lane);
    lane.add(item);
    this.#context.changed(conversationId);
  }

  #lane(): Lane {
    return new Lane({
      ...this.#context,
      ahead: () => (this.#session?.capabilities.includes(ORDERED_SENDS) === true ? this.#context.aheadMax : 1),
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

export function conversationOf(pending: PendingMessage, userId: string): string {
  const { target } = pending;
  return "to" in target ? directConversationId(userId, target.to) : target.conversationId;
}

function contentProblem(content: Content, bytesMax: number): RequestError | undefined {
  const bytes =
    content.type === "text" ? encodeUtf8(content.text).length : content.type === "custom" ? content.data.length : 0;
  if (bytes <= bytesMax) return undefined;
  const message = `the content has ${bytes} bytes, ${bytesMax} are allowed`;
  return new RequestError("payload_too_large", message, { field: "send.content" });
}
