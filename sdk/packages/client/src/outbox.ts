// Sends until they are acknowledged.
//
// The sends of one conversation form a lane, in call order, and one of them is on its way at a time: whatever becomes
// of it (a lost connection, an outcome that nobody knows), it can be tried again with the same id and no later one has
// overtaken it. Lanes do not wait for each other.
import { Backoff, type BackoffOptions } from "./backoff.js";
import { type CancelSignal, onCancel } from "./cancel.js";
import { Alarm, type Clock } from "./clock.js";
import { contentToWire, type RequestBody } from "./codec.js";
import type { SendResponse } from "./gen/parlance/client/v1/message.js";
import {
  type ClosedError,
  type ParlanceError,
  ProtocolError,
  QueueFullError,
  RequestError,
  TimedOutError,
} from "./errors.js";
import { directConversationId } from "./ids.js";
import type { Content, ConversationMessage, SendResult, Session, Target } from "./model.js";
import type { RandomSource } from "./random.js";
import type { Outcome, Requests } from "./requests.js";
import { encodeUtf8 } from "./utf8.js";

/** What an outbox needs. */
export interface OutboxContext {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly backoff: BackoffOptions;
  readonly timeoutMs: number;
  readonly max: number;
  readonly requests: Requests;
  /** The gateway leaves out the echo to the session that sent: the event comes from its acknowledgement. */
  stored(event: ConversationMessage): void;
}

/** One message to send. */
export interface Letter {
  readonly target: Target;
  readonly content: Content;
  readonly clientMessageId: string;
}

interface Item extends Letter {
  readonly deadline: Alarm;
  done: boolean;
  /** Why the last try failed. */
  error: ParlanceError | undefined;
  resolve(result: SendResult): void;
  reject(error: ParlanceError): void;
}

interface Lane {
  readonly items: Item[];
  readonly pause: Alarm;
  readonly backoff: Backoff;
  /** One is posted and unanswered; perhaps one that timed out here. */
  busy: boolean;
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

  send(letter: Letter, signal?: CancelSignal): Promise<SendResult> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) throw this.#closed;
      if (this.#count >= this.#context.max) {
        throw new QueueFullError(`${this.#context.max} sends are waiting for their acknowledgement already`);
      }
      const settle = (act: () => void): void => {
        if (item.done) return;
        item.done = true;
        item.deadline.stop();
        forget();
        this.#count -= 1;
        act();
      };
      const item: Item = {
        ...letter,
        deadline: new Alarm(this.#context.clock),
        done: false,
        error: undefined,
        resolve: (result) => settle(() => resolve(result)),
        reject: (error) => settle(() => reject(error)),
      };
      const forget = onCancel(signal, (error) => this.#giveUp(item, error));
      item.deadline.start(this.#context.timeoutMs, () =>
        this.#giveUp(item, new TimedOutError(`not acknowledged within ${this.#context.timeoutMs} ms`, item.error)),
      );
      this.#count += 1;
      if (this.#session === undefined) this.#unrouted.push(item);
      else this.#route(item, this.#session);
      this.pump();
    });
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
    const items = [...this.#unrouted, ...[...this.#lanes.values()].flatMap((lane) => lane.items)];
    for (const lane of this.#lanes.values()) lane.pause.stop();
    this.#unrouted = [];
    this.#lanes.clear();
    for (const item of items) item.reject(error);
  }

  /** Hands out what there is room for. */
  pump(): void {
    for (const [conversationId, lane] of this.#lanes) {
      if (!this.#context.requests.hasRoom) return;
      this.#pumpLane(conversationId, lane);
    }
  }

  #route(item: Item, session: Session): void {
    if (item.done) return;
    const tooLarge = contentProblem(item.content, session.limits.contentBytesMax);
    if (tooLarge !== undefined) return item.reject(tooLarge);
    const { target } = item;
    const conversationId = "to" in target ? directConversationId(session.userId, target.to) : target.conversationId;
    let lane = this.#lanes.get(conversationId);
    if (lane === undefined) {
      const { clock, backoff, random } = this.#context;
      lane = { items: [], pause: new Alarm(clock), backoff: new Backoff(backoff, random), busy: false };
      this.#lanes.set(conversationId, lane);
    }
    lane.items.push(item);
  }

  #pumpLane(conversationId: string, lane: Lane): void {
    const item = lane.items[0];
    if (item === undefined || lane.busy || lane.pause.running) return;
    lane.busy = true;
    this.#context.requests.post(requestOf(item), (outcome) => {
      lane.busy = false;
      this.#settle(lane, item, outcome);
      this.#tidy(conversationId, lane);
      // After a loss the next log-in pumps.
      if (outcome.kind !== "lost") this.#pumpLane(conversationId, lane);
    });
  }

  #settle(lane: Lane, item: Item, outcome: Outcome): void {
    if (outcome.kind === "lost") return;
    if (outcome.kind === "answer") {
      if (outcome.body.$case === "send") return this.#acknowledge(lane, item, outcome.body.value);
      return item.reject(new ProtocolError(`asked for send, got ${outcome.body.$case}`));
    }
    item.error = outcome.error;
    if (!outcome.error.retryable) return item.reject(outcome.error);
    lane.pause.start(lane.backoff.next(outcome.error.retryAfterMs), () => this.pump());
  }

  #acknowledge(lane: Lane, item: Item, answer: SendResponse): void {
    const { conversationId, seq, timeMs, duplicate } = answer;
    const { clientMessageId, content } = item;
    lane.backoff.reset();
    const sender = this.#session?.userId ?? "";
    this.#context.stored({ type: "message", conversationId, seq, timeMs, sender, clientMessageId, content });
    item.resolve({ conversationId, seq, timeMs, clientMessageId, duplicate });
  }

  /** Forgets what is done. */
  #tidy(conversationId: string, lane: Lane): void {
    const left = lane.items.filter((item) => !item.done);
    lane.items.splice(0, lane.items.length, ...left);
    if (left.length > 0 || lane.busy) return;
    lane.pause.stop();
    this.#lanes.delete(conversationId);
  }

  #giveUp(item: Item, error: ParlanceError): void {
    item.reject(error);
    this.#unrouted = this.#unrouted.filter((other) => other !== item);
    for (const [conversationId, lane] of [...this.#lanes]) {
      if (lane.items.includes(item)) this.#tidy(conversationId, lane);
    }
    this.pump();
  }
}

function requestOf(letter: Letter): Extract<RequestBody, { $case: "send" }> {
  const { target } = letter;
  return {
    $case: "send",
    value: {
      target:
        "to" in target
          ? { $case: "toUser", value: target.to }
          : { $case: "conversationId", value: target.conversationId },
      clientMessageId: letter.clientMessageId,
      content: contentToWire(letter.content),
    },
  };
}

function contentProblem(content: Content, bytesMax: number): RequestError | undefined {
  const bytes =
    content.type === "text" ? encodeUtf8(content.text).length : content.type === "custom" ? content.data.length : 0;
  if (bytes <= bytesMax) return undefined;
  const message = `the content has ${bytes} bytes, ${bytesMax} are allowed`;
  return new RequestError("payload_too_large", message, { field: "send.content" });
}
