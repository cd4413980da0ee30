// Sends until they are acknowledged.
//
// The sends of one conversation form a lane and are handed out in call order, several at a time; the gateway keeps
// that order. After a lost connection the unanswered ones go again, in order, with the same ids. After a retryable
// error the lane stands still until its answers are in: if none of the later sends was stored, all go again in order;
// if one was, a retry would come behind it, so the error goes to the caller instead.
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
  TimeoutError,
} from "./errors.js";
import { directConversationId } from "./ids.js";
import type { Content, MessageEvent, SendResult, Session, Target } from "./model.js";
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
  stored(event: MessageEvent): void;
}

/** One message to send. */
export interface Letter {
  readonly target: Target;
  readonly content: Content;
  readonly clientMessageId: string;
}

interface Item extends Letter {
  readonly deadline: Alarm;
  state: "queued" | "in_flight" | "failed" | "done";
  error: ParlanceError | undefined;
  resolve(result: SendResult): void;
  reject(error: ParlanceError): void;
}

interface Lane {
  readonly items: Item[];
  readonly pause: Alarm;
  readonly backoff: Backoff;
  /** Posted and unanswered, those that timed out here included. */
  inFlight: number;
}

/** Unanswered sends of one conversation: enough to fill a batch, few enough to resend. */
const LANE_IN_FLIGHT_MAX = 32;

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
        if (item.state === "done") return;
        item.state = "done";
        item.deadline.stop();
        forget();
        this.#count -= 1;
        act();
      };
      const item: Item = {
        ...letter,
        deadline: new Alarm(this.#context.clock),
        state: "queued",
        error: undefined,
        resolve: (result) => settle(() => resolve(result)),
        reject: (error) => settle(() => reject(error)),
      };
      const forget = onCancel(signal, (error) => this.#giveUp(item, error));
      item.deadline.start(this.#context.timeoutMs, () =>
        this.#giveUp(item, new TimeoutError(`not acknowledged within ${this.#context.timeoutMs} ms`, item.error)),
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
    if (item.state === "done") return;
    const tooLarge = contentProblem(item.content, session.limits.contentBytesMax);
    if (tooLarge !== undefined) return item.reject(tooLarge);
    const { target } = item;
    const conversationId = "to" in target ? directConversationId(session.userId, target.to) : target.conversationId;
    let lane = this.#lanes.get(conversationId);
    if (lane === undefined) {
      const { clock, backoff, random } = this.#context;
      lane = { items: [], pause: new Alarm(clock), backoff: new Backoff(backoff, random), inFlight: 0 };
      this.#lanes.set(conversationId, lane);
    }
    lane.items.push(item);
  }

  #pumpLane(conversationId: string, lane: Lane): void {
    if (lane.items.some((item) => item.state === "failed")) return;
    for (const item of [...lane.items]) {
      if (lane.inFlight >= LANE_IN_FLIGHT_MAX || !this.#context.requests.hasRoom) return;
      if (item.state !== "queued") continue;
      item.state = "in_flight";
      lane.inFlight += 1;
      this.#context.requests.post(requestOf(item), (outcome) => {
        lane.inFlight -= 1;
        this.#settle(lane, item, outcome);
        this.#tidy(conversationId, lane);
      });
    }
  }

  #settle(lane: Lane, item: Item, outcome: Outcome): void {
    if (outcome.kind === "answer") {
      if (outcome.body.$case === "send") return this.#acknowledge(lane, item, outcome.body.value);
      return item.reject(new ProtocolError(`asked for send, got ${outcome.body.$case}`));
    }
    if (item.state === "done") return;
    if (outcome.kind === "lost") {
      item.state = "queued";
      return;
    }
    item.error = outcome.error;
    if (outcome.error.retryable) item.state = "failed";
    else item.reject(outcome.error);
  }

  #acknowledge(lane: Lane, item: Item, answer: SendResponse): void {
    const { conversationId, seq, timeMs, duplicate } = answer;
    const { clientMessageId, content } = item;
    lane.backoff.reset();
    for (const earlier of lane.items) {
      if (earlier === item) break;
      if (earlier.state === "failed" && earlier.error !== undefined) earlier.reject(earlier.error);
    }
    const sender = this.#session?.userId ?? "";
    this.#context.stored({ type: "message", conversationId, seq, timeMs, sender, clientMessageId, content });
    item.resolve({ conversationId, seq, timeMs, clientMessageId, duplicate });
  }

  /** After an answer: forgets what is done, and plans the retry once all answers are in. */
  #tidy(conversationId: string, lane: Lane): void {
    const left = lane.items.filter((item) => item.state !== "done");
    lane.items.splice(0, lane.items.length, ...left);
    if (left.length === 0 && lane.inFlight === 0) {
      lane.pause.stop();
      this.#lanes.delete(conversationId);
      return;
    }
    const failed = left.filter((item) => item.state === "failed");
    if (failed.length === 0 || lane.inFlight > 0 || lane.pause.running) return;
    const atLeast = Math.max(...failed.map((item) => item.error?.retryAfterMs ?? 0));
    lane.pause.start(lane.backoff.next(atLeast), () => {
      for (const item of lane.items) if (item.state === "failed") item.state = "queued";
      this.pump();
    });
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
