// The connection as a state machine:
//
//   idle ─open─▶ connecting ─logged in─▶ online
//                  ▲    │                  │
//                  │    └──── failed ──────┤
//                  └──wait over── waiting ◀┘        any ─close, refused for good─▶ closed ─open─▶ connecting
//
// It knows sockets, addresses, tokens and time, and nothing of messages. Each attempt has a number; what an older
// attempt's socket still says is ignored.
import { Backoff } from "./backoff.js";
import { Alarm, stopwatch } from "./clock.js";
import { CloseCode, closeAction } from "./codes.js";
import { decodeFrame, encodeRequest, loginToWire, type ServerFrame, sessionFromWire, SUBPROTOCOL } from "./codec.js";
import {
  ConnectionError,
  finalError,
  loginError,
  type ParlanceError,
  ProtocolError,
  TokenError,
  VersionError,
} from "./errors.js";
import type { ConnectionState, StateChange } from "./events.js";
import type { Error as WireError } from "./gen/parlance/common/v1/error.js";
import { Heartbeat } from "./heartbeat.js";
import type { Session } from "./model.js";
import type { Credentials, Settings } from "./options.js";
import { fraction } from "./random.js";
import { Tokens } from "./tokens.js";
import type { Socket } from "./transport.js";
import { PROTOCOLS } from "./version.js";

/** What the rest of the client does with a connection. */
export interface ConnectionEvents {
  changed(change: StateChange): void;
  /** Takes the session as the client's, or returns why it is not wanted: then the connection closes for good. */
  accept(session: Session): ParlanceError | undefined;
  /** The session is open, and `online` was told. */
  loggedIn(session: Session): void;
  /** After `online`: the connection is gone. */
  lost(): void;
  /** The cluster refused a fresh token too. It is asked for another one after a wait. */
  refused(error: ParlanceError): void;
  received(frame: ServerFrame): void;
  ping(): void;
  /** A large answer may be on its way. */
  busy(): boolean;
  failed(error: ParlanceError): void;
}

const LOGIN_ID = 1;
/** A connection that lasted so long was a good one: the next failure starts from the shortest wait. */
const STABLE_MS = 10_000;
/** A planned move needs no wait, unless gateways keep sending us on. */
const MOVES_MAX = 2;

export class Connection {
  readonly #settings: Settings;
  readonly #events: ConnectionEvents;
  readonly #tokens: Tokens;
  readonly #backoff: Backoff;
  readonly #alarm: Alarm;
  readonly #move: Alarm;
  readonly #heartbeat: Heartbeat;
  #state: ConnectionState = "idle";
  #attempt = 0;
  #address: number;
  #socket: Socket | undefined;
  /** Time that never goes back, however the clock is set. */
  readonly #passed: () => number;
  #onlineSince = 0;
  /** The network came back while it was connecting: should that attempt fail, the next one is made at once. */
  #woken = false;
  /** Planned moves in a row, none of which led to a lasting connection. */
  #moves = 0;

  constructor(settings: Settings, events: ConnectionEvents) {
    this.#settings = settings;
    this.#events = events;
    this.#passed = stopwatch(settings.clock);
    this.#tokens = new Tokens(settings.getToken, settings.clock, settings.connectTimeoutMs);
    this.#backoff = new Backoff(settings.backoff, settings.random);
    this.#alarm = new Alarm(settings.clock);
    this.#move = new Alarm(settings.clock);
    const random = settings.firstGateway === "random" ? fraction(settings.random) : 0;
    this.#address = Math.floor(random * settings.gateways.length);
    const heart = {
      ping: () => events.ping(),
      dead: () => this.#end(new ConnectionError("no answer to a ping")),
      received: () => this.#socket?.received?.(),
      busy: () => events.busy(),
    };
    this.#heartbeat = new Heartbeat(settings.clock, heart, settings.pingTimeoutMs);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Does nothing while it is open. */
  open(): void {
    if (this.#state !== "idle" && this.#state !== "closed") return;
    this.#fresh();
    this.#connect();
  }

  /** Until it is opened again. */
  close(error?: ParlanceError): void {
    if (this.#state === "closed") return;
    const wasOnline = this.#drop();
    // Whoever was thrown out comes back with a newer token, if at all.
    if (error !== undefined) this.#tokens.refuse(error);
    this.#enter("closed", error === undefined ? {} : { error });
    if (wasOnline) this.#events.lost();
  }

  /** The network may be back: does not wait any longer, and looks if an open connection still lives. */
  wake(): void {
    if (this.#state === "waiting") this.#connect();
    else if (this.#state === "connecting") this.#woken = true;
    else if (this.#state === "online") this.#heartbeat.check();
  }

  write(frame: Uint8Array): void {
    try {
      this.#socket?.send(frame);
    } catch (cause) {
      this.#end(new ConnectionError("the socket refused a frame", CloseCode.abnormal, cause));
    }
  }

  /** The session's token is about to end: the app's next one. */
  newToken(): Promise<Credentials> {
    return this.#tokens.renewed();
  }

  /** The gateway will close: connects to the next address after a random part of the delay. */
  moveWithin(ms: number): void {
    if (this.#state !== "online" || this.#move.running) return;
    this.#move.start(Math.floor(fraction(this.#settings.random) * ms), () =>
      this.#end(new ConnectionError("the gateway asked to connect elsewhere", CloseCode.goingAway)),
    );
  }

  #connect(): void {
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.#alarm.stop();
    if (this.#state !== "connecting") this.#enter("connecting");
    if (attempt !== this.#attempt) return;
    this.#tokens.current().then(
      (token) => {
        if (attempt === this.#attempt) this.#dial(attempt, token);
      },
      (error: ParlanceError) => {
        if (attempt !== this.#attempt) return;
        this.#events.failed(error);
        this.#wait(error, this.#backoff.next());
      },
    );
  }

  #dial(attempt: number, token: Credentials): void {
    const { transport, connectTimeoutMs } = this.#settings;
    const url = this.#url();
    let reader = (bytes: Uint8Array): void => this.#readLogin(bytes, url);
    const current = (act: () => void): void => {
      if (attempt === this.#attempt) act();
    };
    this.#alarm.start(connectTimeoutMs, () => this.#end(new ConnectionError(`${url} did not answer in time`)));
    try {
      this.#socket = transport.connect(url, SUBPROTOCOL, {
        opened: () => current(() => this.#login(token)),
        received: (bytes) =>
          current(() => {
            reader(bytes);
            if (this.#state === "online") reader = (next) => this.#read(next);
          }),
        closed: (code, reason) => current(() => this.#end(closeError(url, code, reason))),
      });
    } catch (cause) {
      this.#end(new ConnectionError(`no connection to ${url}`, CloseCode.abnormal, cause));
    }
  }

  #login(token: Credentials): void {
    const { platform, deviceId, connectTimeoutMs } = this.#settings;
    this.#alarm.start(connectTimeoutMs, () => this.#end(new ConnectionError("no answer to the log-in in time")));
    this.write(encodeRequest(LOGIN_ID, loginToWire(token, platform, deviceId)));
  }

  #readLogin(bytes: Uint8Array, url: string): void {
    const frame = this.#decode(bytes);
    if (frame === undefined) return;
    if (frame.body?.$case === "error") return this.#refuse(frame.requestId, frame.body.value, url);
    if (frame.body?.$case !== "login") return this.#end(new ProtocolError("the log-in was not answered first"));
    const session = sessionFromWire(frame.body.value, url);
    if (session.protocol < PROTOCOLS.min || session.protocol > PROTOCOLS.max) {
      return this.#end(new VersionError(`the gateway chose ${session.protocol}`));
    }
    this.#alarm.stop();
    this.#tokens.accept();
    const refusal = this.#events.accept(session);
    if (refusal !== undefined) return this.close(refusal);
    this.#onlineSince = this.#passed();
    this.#heartbeat.start(Math.min(this.#settings.pingIntervalMs, session.limits.idleTimeoutMs / 3));
    const attempt = this.#attempt;
    this.#woken = false;
    this.#enter("online");
    // Whoever was told may have closed it.
    if (attempt === this.#attempt) this.#events.loggedIn(session);
  }

  /** What the gateway says of itself and not of the log-in, such as that it was slow to come, can pass. */
  #refuse(requestId: number, error: WireError, url: string): void {
    const refusal = loginError(error);
    this.#end(requestId === LOGIN_ID ? refusal : notAnswered(url, refusal));
  }

  #read(bytes: Uint8Array): void {
    const frame = this.#decode(bytes);
    if (frame === undefined) return;
    this.#heartbeat.heard();
    this.#events.received(frame);
  }

  #decode(bytes: Uint8Array): ServerFrame | undefined {
    try {
      return decodeFrame(bytes);
    } catch (cause) {
      const error = new ProtocolError("the gateway sent bytes that are not a frame", cause);
      this.#events.failed(error);
      this.#end(error);
      return undefined;
    }
  }

  /** This attempt is over: decides what comes next. */
  #end(error: ParlanceError): void {
    const lasted = this.#state === "online" ? this.#passed() - this.#onlineSince : 0;
    if (lasted >= STABLE_MS) this.#fresh();
    const wasOnline = this.#drop();
    this.#address += 1;
    if (wasOnline) this.#events.lost();
    if (this.#state === "closed") return;
    const action = error instanceof ConnectionError ? closeAction(error.closeCode) : undefined;
    if (error instanceof TokenError || action === "new_token") return this.#renewToken(error);
    if (action === "stop") return this.close(finalError(error));
    if (!error.retryable && !(error instanceof ProtocolError) && error.code !== "internal") return this.close(error);
    if ((action === "elsewhere" || error.code === "shutting_down") && this.#moves < MOVES_MAX) {
      this.#moves += 1;
      return this.#wait(error, 0);
    }
    this.#wait(error, this.#backoff.next(error.retryAfterMs));
  }

  /** A token that became too old is no failure; a fresh one that is refused too may be a server that is not well. */
  #renewToken(error: ParlanceError): void {
    const refusals = this.#tokens.refuse(error);
    if (refusals > 1) this.#events.refused(error);
    // The app may have closed it.
    if (this.#state !== "closed") this.#wait(error, refusals > 1 ? this.#backoff.next(error.retryAfterMs) : 0);
  }

  /** What went wrong before counts no longer. */
  #fresh(): void {
    this.#backoff.reset();
    this.#tokens.forgive();
    this.#moves = 0;
  }

  #wait(error: ParlanceError, ms: number): void {
    this.#attempt += 1;
    const attempt = this.#attempt;
    const retryInMs = this.#woken ? 0 : ms;
    this.#woken = false;
    this.#enter("waiting", { error, retryInMs });
    if (attempt === this.#attempt && this.#state === "waiting") this.#alarm.start(retryInMs, () => this.#connect());
  }

  /** Lets go of the socket and of all timers; says if a session was up. */
  #drop(): boolean {
    this.#attempt += 1;
    this.#alarm.stop();
    this.#move.stop();
    this.#heartbeat.stop();
    const socket = this.#socket;
    this.#socket = undefined;
    try {
      socket?.close(CloseCode.normal, "");
    } catch {
      // It was closed already, or never opened.
    }
    return this.#state === "online";
  }

  #enter(state: ConnectionState, detail: Pick<StateChange, "error" | "retryInMs"> = {}): void {
    const previous = this.#state;
    this.#state = state;
    this.#events.changed({ state, previous, ...detail });
  }

  #url(): string {
    const { gateways } = this.#settings;
    return gateways[this.#address % gateways.length] ?? "";
  }
}

function notAnswered(url: string, cause: ParlanceError): ConnectionError {
  return new ConnectionError(`${url} did not take the log-in: ${cause.message}`, CloseCode.abnormal, cause);
}

function closeError(url: string, code: number, reason: string): ConnectionError {
  return new ConnectionError(`the connection to ${url} closed with ${code}${reason === "" ? "" : `: ${reason}`}`, code);
}
