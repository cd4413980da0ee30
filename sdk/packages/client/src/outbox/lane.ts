// The sends of one conversation, in call order, several of them on their way at a time where the gateway keeps the
// order: each says behind which one it comes, and is refused when that one was refused for the moment. After such a
// refusal nothing more goes out until everything is answered; then it starts again from the first that is left.
import { Backoff, type BackoffOptions } from "../backoff.js";
import { Alarm, type Clock } from "../clock.js";
import { contentToWire, type RequestBody } from "../codec.js";
import { ProtocolError } from "../errors.js";
import type { SendResponse } from "../gen/parlance/client/v1/message.js";
import type { PendingMessage } from "../model.js";
import type { RandomSource } from "../random.js";
import type { Outcome, Requests } from "../requests.js";
import type { Item } from "./item.js";

/** What a lane needs. */
export interface LaneContext {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly backoff: BackoffOptions;
  readonly requests: Requests;
  /** Sends that may be on their way in one lane. */
  readonly ahead: () => number;
  /** It goes out now; false if it may not any more. */
  leaves(item: Item): boolean;
  acknowledged(item: Item, answer: SendResponse): void;
  /** There may be something to send again, or nothing left. */
  moved(): void;
}

export class Lane {
  readonly #context: LaneContext;
  readonly #pause: Alarm;
  readonly #backoff: Backoff;
  #items: Item[] = [];
  #onTheWay = 0;
  /** Something was refused for the moment: until when at least it waits, in ms. */
  #refused: number | undefined;

  constructor(context: LaneContext) {
    this.#context = context;
    this.#pause = new Alarm(context.clock);
    this.#backoff = new Backoff(context.backoff, context.random);
  }

  get items(): readonly Item[] {
    return this.#items;
  }

  get empty(): boolean {
    return this.#items.length === 0;
  }

  /** One from an earlier run goes before all of this one that are not on their way. */
  add(item: Item): void {
    const place = this.#items.findIndex((other) => !other.restored && !other.posted);
    this.#items.splice(item.restored && place >= 0 ? place : this.#items.length, 0, item);
  }

  stop(): void {
    this.#pause.stop();
  }

  /** Forgets what is done and not on its way. */
  tidy(): void {
    this.#items = this.#items.filter((item) => item.posted || !item.done);
    if (this.empty) this.stop();
  }

  /** Hands out the next one, if it may go now. */
  next(): boolean {
    if (this.#refused !== undefined || this.#pause.running || this.#onTheWay >= this.#context.ahead()) return false;
    let before: Item | undefined;
    for (const item of this.#items) {
      if (item.posted) before = item;
      else if (!item.done && this.#context.leaves(item)) {
        this.#post(item, before);
        return true;
      }
    }
    return false;
  }

  #post(item: Item, before: Item | undefined): void {
    const request = requestOf(item, before);
    item.posted = true;
    this.#onTheWay += 1;
    this.#context.requests.post(request, (outcome) => {
      item.posted = false;
      this.#onTheWay -= 1;
      this.#settle(item, outcome);
      this.tidy();
      // After a loss the next log-in goes on.
      if (outcome.kind === "lost") this.#refused = undefined;
      else this.#answered();
    });
  }

  #settle(item: Item, outcome: Outcome): void {
    if (outcome.kind === "lost") return;
    if (outcome.kind === "answer") {
      if (outcome.body.$case !== "send") {
        return item.reject(new ProtocolError(`asked for send, got ${outcome.body.$case}`));
      }
      this.#backoff.reset();
      return this.#context.acknowledged(item, outcome.body.value);
    }
    item.error = outcome.error;
    if (!outcome.error.retryable) return item.reject(outcome.error);
    this.#refused = Math.max(this.#refused ?? 0, outcome.error.retryAfterMs);
  }

  #answered(): void {
    if (this.#refused !== undefined && this.#onTheWay === 0) {
      const atLeast = this.#refused;
      this.#refused = undefined;
      if (!this.empty) this.#pause.start(this.#backoff.next(atLeast), () => this.#context.moved());
    }
    this.#context.moved();
  }
}

function requestOf(
  message: PendingMessage,
  before: PendingMessage | undefined,
): Extract<RequestBody, { $case: "send" }> {
  const { target } = message;
  return {
    $case: "send",
    value: {
      target:
        "to" in target
          ? { $case: "toUser", value: target.to }
          : { $case: "conversationId", value: target.conversationId },
      clientMessageId: message.clientMessageId,
      content: contentToWire(message.content),
      after: before?.clientMessageId ?? "",
    },
  };
}
