// Requests and their answers on the connection of the moment.
//
// `post` is one try on this connection. `call` lasts: it waits for a connection, goes again after a lost one or a
// retryable error, and ends at its time-out. That is right for every request of this protocol, as all are idempotent.
import { Backoff, type BackoffOptions } from "./backoff.js";
import { Alarm, type Clock } from "./clock.js";
import { encodeRequest, type RequestBody, type ServerBody, type ServerFrame } from "./codec.js";
import {
  type ClosedError,
  fromWire,
  type ParlanceError,
  ProtocolError,
  QueueFullError,
  RequestError,
  TimedOutError,
} from "./errors.js";
import { type CancelSignal, onCancel } from "./cancel.js";
import type { Limits } from "./model.js";
import type { RandomSource } from "./random.js";

/** How one try ended. `lost`: the connection went before an answer came. */
export type Outcome =
  | { readonly kind: "answer"; readonly body: ServerBody }
  | { readonly kind: "error"; readonly error: ParlanceError }
  | { readonly kind: "lost" };

/** What `Requests` needs. */
export interface RequestsContext {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly backoff: BackoffOptions;
  readonly timeoutMs: number;
  readonly waitingMax: number;
  /** An answer made room for another request. */
  room(): void;
}

/** Kind of an answer → what it carries. */
type Answers = { [Body in ServerBody as Body["$case"]]: Body["value"] };

/** How to call. */
export interface CallOptions {
  readonly signal?: CancelSignal | undefined;
  /**
   * The time is over, but the request is out on a connection that lives: its answer may be coming in on a slow line. It
   * is still taken, as asking again would only put a second one behind it.
   */
  readonly late?: () => void;
  /** An error that can pass is the caller's to wait for. */
  readonly once?: boolean;
}

interface Call {
  readonly body: () => RequestBody;
  readonly deadline: Alarm;
  readonly pause: Alarm;
  readonly backoff: Backoff;
  readonly once: boolean;
  /** It is posted, and neither answered nor lost. */
  out: boolean;
  resolve(body: ServerBody): void;
  reject(error: ParlanceError): void;
}

/** A request in flight. */
interface Posted {
  /** Its answer can be large. */
  readonly large: boolean;
  done(outcome: Outcome): void;
}

/** Room that sends leave to other requests. */
const RESERVED = 4;
/** So many time-outs a late answer is waited for. */
const LATE_MAX = 6;

export class Requests {
  readonly #context: RequestsContext;
  readonly #inFlight = new Map<number, Posted>();
  readonly #waiting: Call[] = [];
  readonly #open = new Set<Call>();
  #nextId = 2;
  #write: ((frame: Uint8Array) => void) | undefined;
  #inFlightMax = 1;
  #frameBytesMax = 0;
  #closed: ClosedError | undefined;

  constructor(context: RequestsContext) {
    this.#context = context;
  }

  /** A connection is logged in: what waits goes out, in order. */
  attach(write: (frame: Uint8Array) => void, limits: Limits): void {
    this.#write = write;
    this.#inFlightMax = limits.requestsInFlightMax;
    this.#frameBytesMax = limits.frameBytesMax;
    this.#pump();
  }

  /** The connection is gone: everything in flight is lost. */
  detach(): void {
    this.#write = undefined;
    const lost = [...this.#inFlight.values()];
    this.#inFlight.clear();
    for (const posted of lost) posted.done({ kind: "lost" });
  }

  /** A large answer may be on its way. */
  get busy(): boolean {
    return [...this.#inFlight.values()].some((posted) => posted.large);
  }

  /** After `close`: takes new ones again. */
  open(): void {
    this.#closed = undefined;
  }

  close(error: ClosedError): void {
    this.#closed = error;
    this.detach();
    for (const call of [...this.#open]) call.reject(error);
  }

  /** True when a send may be posted. */
  get hasRoom(): boolean {
    return this.#write !== undefined && this.#inFlight.size < Math.max(1, this.#inFlightMax - RESERVED);
  }

  /** One try on this connection; `done` is called exactly once, in the order of the answers. */
  post(body: RequestBody, done: (outcome: Outcome) => void): void {
    const write = this.#write;
    if (write === undefined) {
      done({ kind: "lost" });
      return;
    }
    const id = this.#nextId;
    const frame = this.#encode(id, body);
    if (frame instanceof RequestError) {
      done({ kind: "error", error: frame });
      return;
    }
    this.#nextId += 1;
    this.#inFlight.set(id, { large: body.$case === "history" || body.$case === "conversations", done });
    write(frame);
  }

  #encode(id: number, body: RequestBody): Uint8Array | RequestError {
    let frame: Uint8Array;
    try {
      frame = encodeRequest(id, body);
    } catch (cause) {
      // A number that no field holds, of an app without types or of a row that is kept.
      return new RequestError("invalid_argument", "the request cannot be encoded", { cause });
    }
    if (frame.length <= this.#frameBytesMax) return frame;
    // The gateway would close the connection, and this request would come again on the next one.
    const message = `a frame of ${frame.length} bytes is above the limit of ${this.#frameBytesMax}`;
    return new RequestError("frame_too_large", message);
  }

  /** Hands an answer to whoever asked; one that nobody asked for is ignored. */
  answer(frame: ServerFrame): void {
    const posted = this.#inFlight.get(frame.requestId);
    if (posted === undefined) return;
    this.#inFlight.delete(frame.requestId);
    posted.done(outcomeOf(frame));
    this.#pump();
    this.#context.room();
  }

  /** Resolves with the answer whose kind is that of the request. `body` is made anew for each try. */
  call<Kind extends keyof Answers & RequestBody["$case"]>(
    kind: Kind,
    body: () => Extract<RequestBody, { $case: Kind }>,
    options: CallOptions = {},
  ): Promise<Answers[Kind]> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) throw this.#closed;
      if (this.#open.size >= this.#context.waitingMax) {
        throw new QueueFullError(`${this.#context.waitingMax} requests are waiting already`);
      }
      const settle = (act: () => void): void => {
        call.deadline.stop();
        call.pause.stop();
        forget();
        this.#open.delete(call);
        const at = this.#waiting.indexOf(call);
        if (at >= 0) this.#waiting.splice(at, 1);
        act();
      };
      const call: Call = {
        body,
        deadline: new Alarm(this.#context.clock),
        pause: new Alarm(this.#context.clock),
        backoff: new Backoff(this.#context.backoff, this.#context.random),
        once: options.once ?? false,
        out: false,
        resolve: (answer) =>
          settle(() => {
            if (answer.$case === kind) resolve(answer.value as Answers[Kind]);
            else reject(new ProtocolError(`asked for ${kind}, got ${answer.$case}`));
          }),
        reject: (error) => settle(() => reject(error)),
      };
      const forget = onCancel(options.signal, (error) => call.reject(error));
      this.#limit(call, kind, options.late, LATE_MAX);
      this.#open.add(call);
      this.#waiting.push(call);
      this.#pump();
    });
  }

  #limit(call: Call, kind: string, late: (() => void) | undefined, more: number): void {
    const { timeoutMs } = this.#context;
    call.deadline.start(timeoutMs, () => {
      if (late === undefined || !call.out || more === 0) {
        return call.reject(new TimedOutError(`no answer to ${kind} within ${timeoutMs} ms`));
      }
      this.#limit(call, kind, late, more - 1);
      late();
    });
  }

  #pump(): void {
    while (this.#write !== undefined && this.#inFlight.size < this.#inFlightMax) {
      const call = this.#waiting.shift();
      if (call === undefined) return;
      call.out = true;
      this.post(call.body(), (outcome) => {
        call.out = false;
        this.#settle(call, outcome);
      });
    }
  }

  #settle(call: Call, outcome: Outcome): void {
    if (!this.#open.has(call)) return;
    if (outcome.kind === "answer") return call.resolve(outcome.body);
    if (outcome.kind === "lost") {
      this.#waiting.push(call);
      return;
    }
    if (!outcome.error.retryable || call.once) return call.reject(outcome.error);
    call.pause.start(call.backoff.next(outcome.error.retryAfterMs), () => {
      this.#waiting.push(call);
      this.#pump();
    });
  }
}

function outcomeOf(frame: ServerFrame): Outcome {
  const body = frame.body;
  if (body === undefined) return { kind: "error", error: new ProtocolError("an answer of an unknown kind") };
  if (body.$case === "error") return { kind: "error", error: fromWire(body.value) };
  return { kind: "answer", body };
}
