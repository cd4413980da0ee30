// The facade: holds the parts and passes calls on. No logic of its own.
import { eventFromWire, readTarget, type ServerFrame } from "./codec.js";
import type { CancelSignal } from "./cancel.js";
import { Connection } from "./connection.js";
import { Conversations } from "./conversations.js";
import { ClosedError, ParlanceError } from "./errors.js";
import { type ClientEvents, type ConnectionState, Emitter, type Listener } from "./events.js";
import { type HistoryOptions, listPage, readHistory } from "./history.js";
import { directConversationId } from "./ids.js";
import { jsonData } from "./json.js";
import type {
  Content,
  Conversation,
  ConversationEvent,
  ConversationPage,
  HistoryPage,
  ReadResult,
  SendResult,
  Session,
  Target,
} from "./model.js";
import { type ClientOptions, type Settings, settingsFrom } from "./options.js";
import { Outbox } from "./outbox.js";
import { newId } from "./random.js";
import { Requests } from "./requests.js";
import type { StreamOptions } from "./stream.js";
import { Sync } from "./sync.js";
import { type ConnectOptions, Waiters } from "./waiters.js";

/** What to say: text, or the app's own bytes or JSON under a number that the app gives a meaning. */
export type Said =
  | { readonly text: string }
  | { readonly customType: number; readonly data: Uint8Array }
  | { readonly customType: number; readonly json: unknown };

/** A message to send. */
export type SendOptions = Target &
  Said & {
    /** Give the id of a failed send to retry it: it is stored once at most. Default: a fresh one. */
    readonly clientMessageId?: string;
    readonly signal?: CancelSignal;
  };

/** A client of a Parlance cluster, for one user. */
export class ParlanceClient {
  readonly #settings: Settings;
  readonly #emitter = new Emitter();
  readonly #requests: Requests;
  readonly #outbox: Outbox;
  readonly #sync: Sync;
  readonly #conversations: Conversations;
  readonly #connection: Connection;
  readonly #waiters: Waiters;
  #session: Session | undefined;

  constructor(options: ClientOptions) {
    this.#settings = settingsFrom(options);
    const { clock, random, backoff, store } = this.#settings;
    const shared = { clock, random, backoff };
    const failed = (error: ParlanceError): void => this.#emitter.emit("error", error);
    this.#waiters = new Waiters(clock);
    this.#requests = new Requests({
      ...shared,
      timeoutMs: this.#settings.requestTimeoutMs,
      waitingMax: this.#settings.requestsWaitingMax,
      room: () => this.#outbox.pump(),
    });
    this.#outbox = new Outbox({
      ...shared,
      timeoutMs: this.#settings.sendTimeoutMs,
      max: this.#settings.outboxMax,
      requests: this.#requests,
      stored: (event) => this.#sync.push(event),
    });
    this.#conversations = new Conversations({
      changed: (conversation) => this.#emitter.emit("conversation", conversation),
      read: (change) => this.#emitter.emit("read", change),
      unsure: () => this.#sync.refresh(),
    });
    this.#sync = new Sync({
      ...shared,
      store,
      heldMax: this.#settings.heldEventsMax,
      heldBytesMax: this.#settings.heldBytesMax,
      requests: this.#requests,
      deliver: (event) => this.#deliver(event),
      listed: (conversation) => this.#conversations.listed(conversation),
      gap: (notice) => this.#emitter.emit("gap", notice),
      synced: (session) => this.#emitter.emit("synced", session),
      failed,
    });
    this.#connection = new Connection(this.#settings, {
      changed: (change) => {
        if (change.state === "closed") this.#shut(change.error);
        else this.#waiters.failed(change.error);
        this.#emitter.emit("state", change);
      },
      loggedIn: (session) => this.#logIn(session),
      lost: () => {
        this.#sync.lost();
        this.#requests.detach();
      },
      refused: (error) => this.#waiters.reject(error),
      received: (frame) => this.#receive(frame),
      ping: () => this.#requests.post({ $case: "ping", value: {} }, () => {}),
      busy: () => this.#requests.busy,
      failed,
    });
  }

  /** Where the connection stands. */
  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** The last log-in; undefined before the first. */
  get session(): Session | undefined {
    return this.#session;
  }

  /** Listens; returns what stops listening. */
  on<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Stops a listener. */
  off<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): void {
    this.#emitter.off(name, listener);
  }

  /** Listens to the next one; returns what stops listening. */
  once<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): () => void {
    return this.#emitter.once(name, listener);
  }

  /** For `for await`: what happens from now on, one after the other, until the client is closed. */
  stream<Name extends keyof ClientEvents>(
    name: Name,
    options: StreamOptions = {},
  ): AsyncIterableIterator<ClientEvents[Name]> {
    return this.#emitter.stream(name, options);
  }

  /**
   * Starts, and stays connected until `close`; after that, starts again where it ended. Resolves when logged in. Until
   * then failed attempts are repeated and told by the `state` event. Rejects when the time given is over, and when the
   * cluster refuses a fresh token too (the client goes on trying in both cases); also when it is closed.
   */
  connect(options: ConnectOptions = {}): Promise<Session> {
    if (this.#session !== undefined && this.state === "online") return Promise.resolve(this.#session);
    const loggedIn = this.#waiters.wait(options);
    if (this.state === "closed") {
      this.#requests.open();
      this.#outbox.open();
      this.#sync.open();
    }
    this.#connection.open();
    return loggedIn;
  }

  /** Ends: what is unanswered rejects with a ClosedError. `connect` opens it again, for the same user. */
  close(): void {
    this.#connection.close();
  }

  /** The network may be back (call it on the platform's own sign): connects now instead of after the wait. */
  reconnectNow(): void {
    this.#connection.wake();
  }

  /** Resolves when the message is durable. Goes on over reconnects until `sendTimeoutMs`. */
  async send(options: SendOptions): Promise<SendResult> {
    const clientMessageId = options.clientMessageId ?? this.newMessageId();
    return this.#outbox.send(
      { target: targetOf(options), content: contentOf(options), clientMessageId },
      options.signal,
    );
  }

  /** An id for `send`, for apps that want to know it before. */
  newMessageId(): string {
    return newId(this.#settings.random);
  }

  /** Reads a conversation's log, over as many answers as it takes. */
  history(options: HistoryOptions): Promise<HistoryPage> {
    return readHistory(this.#requests, options, () => this.#sync.pageBytes);
  }

  /** A page of the list as the cluster has it. For showing a list, `conversations()` is nearer. */
  listConversations(options: { readonly after?: string; readonly limit?: number } = {}): Promise<ConversationPage> {
    return listPage(this.#requests, { after: "", ...options }, () => this.#sync.pageBytes);
  }

  /** All conversations as known here, the latest first. Complete after `synced`. */
  conversations(): readonly Conversation[] {
    return this.#conversations.all();
  }

  /** One conversation as known here. */
  conversation(conversationId: string): Conversation | undefined {
    return this.#conversations.get(conversationId);
  }

  /** The id of the direct conversation with a user, known from the first log-in on. */
  conversationIdWith(userId: string): string {
    if (this.#session === undefined) throw new ParlanceError("not_logged_in", "there was no log-in yet");
    return directConversationId(this.#session.userId, userId);
  }

  /** Moves this user's read cursor to `seq`; it never moves back. */
  async markRead(options: Target & { readonly seq: number }): Promise<ReadResult> {
    const value = { target: readTarget(targetOf(options)), seq: options.seq };
    const answer = await this.#requests.call("markRead", () => ({ $case: "markRead", value }));
    const { conversationId, readSeq, unreadCount } = answer;
    this.#conversations.marked({ conversationId, readSeq, unreadCount });
    return { conversationId, readSeq, unreadCount };
  }

  #logIn(session: Session): ParlanceError | undefined {
    const before = this.#session;
    if (before !== undefined && (before.userId !== session.userId || before.appId !== session.appId)) {
      return new ParlanceError("user_changed", `getToken gave a token of ${session.userId}, not of ${before.userId}`);
    }
    this.#session = session;
    this.#conversations.setUser(session.userId);
    this.#requests.attach((frame) => this.#connection.write(frame), session.limits);
    this.#sync.start(session);
    this.#outbox.online(session);
    this.#waiters.resolve(session);
    return undefined;
  }

  #receive(frame: ServerFrame): void {
    if (frame.requestId !== 0) return this.#requests.answer(frame);
    const body = frame.body;
    if (body?.$case === "event") this.#sync.push(eventFromWire(body.value));
    else if (body?.$case === "readCursor") {
      this.#conversations.cursor(body.value.conversationId, body.value.userId, body.value.readSeq);
    } else if (body?.$case === "resync") this.#sync.resync(body.value.withinMs);
    else if (body?.$case === "reconnect") this.#connection.moveWithin(body.value.withinMs);
  }

  #deliver(event: ConversationEvent): void {
    this.#conversations.delivered(event);
    this.#emitter.emit("event", event);
    if (event.type === "message") this.#emitter.emit("message", event);
  }

  #shut(cause: ParlanceError | undefined): void {
    const error = new ClosedError(cause);
    this.#sync.close();
    this.#outbox.close(error);
    this.#requests.close(error);
    this.#waiters.reject(cause ?? error);
  }
}

function targetOf(options: Target): Target {
  return "to" in options ? { to: options.to } : { conversationId: options.conversationId };
}

function contentOf(said: Said): Content {
  if ("text" in said) return { type: "text", text: said.text };
  const data = "json" in said ? jsonData(said.json) : said.data;
  return { type: "custom", customType: said.customType, data };
}
