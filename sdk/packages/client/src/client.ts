// The facade: holds the parts and passes calls on. No logic of its own.
import { Cache } from "./cache/cache.js";
import { eventFromWire, readTarget, renewToWire, type ServerFrame } from "./codec.js";
import { ClusterTime } from "./clock.js";
import { Connection } from "./connection.js";
import { Conversations } from "./conversations.js";
import { AppError, ClosedError, ParlanceError } from "./errors.js";
import { type ConnectionState, Listenable, type StateChange } from "./events.js";
import { type HistoryOptions, listPage, readHistory } from "./history.js";
import { directConversationId } from "./ids.js";
import type {
  Conversation,
  ConversationEvent,
  ConversationPage,
  HistoryPage,
  PendingMessage,
  ReadResult,
  SendResult,
  Session,
  Target,
} from "./model.js";
import { type ClientOptions, type Settings, settingsFrom } from "./options.js";
import { Outbox } from "./outbox.js";
import { conversationOf } from "./outbox/item.js";
import { newId } from "./random.js";
import { Recall } from "./recall.js";
import { Renewal } from "./renewal.js";
import { Requests } from "./requests.js";
import { contentOf, type SendOptions, targetOf } from "./sending.js";
import type { StoreOwner } from "./store.js";
import { Sync } from "./sync.js";
import { type Timeline, Timelines } from "./timeline.js";
import { type ConnectOptions, Waiters } from "./waiters.js";
import { Watchers } from "./watchers.js";

/** What those watch who watch all conversations: no id is empty. */
const ALL = "";

/** A client of a Parlance cluster, for one user. */
export class ParlanceClient extends Listenable {
  readonly #settings: Settings;
  readonly #time: ClusterTime;
  readonly #watchers = new Watchers((cause) => {
    this.emitter.emit("error", new AppError("listener", "a watcher threw", { cause }));
  });
  readonly #cache: Cache;
  readonly #recall: Recall;
  readonly #requests: Requests;
  readonly #outbox: Outbox;
  readonly #sync: Sync;
  readonly #conversations: Conversations;
  readonly #timelines: Timelines;
  readonly #connection: Connection;
  readonly #renewal: Renewal;
  readonly #waiters: Waiters;
  #session: Session | undefined;
  #change: StateChange = { state: "idle", previous: "idle" };

  constructor(options: ClientOptions) {
    super();
    this.#settings = settingsFrom(options);
    const { clock, random, backoff, store, locks, cacheBytesMax } = this.#settings;
    const shared = { clock, random, backoff };
    const failed = (error: ParlanceError): void => this.emitter.emit("error", error);
    this.#waiters = new Waiters(clock);
    this.#time = new ClusterTime(clock);
    this.#cache = new Cache({ clock, random, store, locks, bytesMax: cacheBytesMax, failed });
    this.#requests = new Requests({
      ...shared,
      timeoutMs: this.#settings.requestTimeoutMs,
      waitingMax: this.#settings.requestsWaitingMax,
      room: () => this.#outbox.pump(),
    });
    this.#outbox = new Outbox({
      ...shared,
      time: this.#time,
      timeoutMs: this.#settings.sendTimeoutMs,
      max: this.#settings.outboxMax,
      aheadMax: this.#settings.sendsAheadMax,
      requests: this.#requests,
      userId: () => this.self?.userId,
      stored: (event) => this.#sync.push(event),
      sending: (message) => this.#cache.sending(message),
      settled: (clientMessageId) => this.#cache.settled(clientMessageId),
      failed: (message, error) => this.#failed(message, error),
      unsent: (message, error) => this.#unsent(message, error),
      changed: (conversationId) => this.#timelines.changed(conversationId),
    });
    this.#timelines = new Timelines({
      cache: this.#cache,
      watchers: this.#watchers,
      history: (wanted) => this.history(wanted),
      onTheWay: (conversationId) => this.#outbox.pending(conversationId),
      send: (pending) => this.#outbox.send(pending),
      discarded: (clientMessageId) => this.#cache.settled(clientMessageId),
    });
    this.#conversations = new Conversations({
      changed: (conversation) => {
        this.#cache.shown(conversation);
        this.#shows(conversation.conversationId);
        this.emitter.emit("conversation", conversation);
      },
      restored: (conversationId) => this.#shows(conversationId),
      read: (change) => this.emitter.emit("read", change),
      unsure: (conversationId) => this.#sync.ask(conversationId),
    });
    this.#recall = new Recall({
      cache: this.#cache,
      conversations: this.#conversations,
      outbox: this.#outbox,
      failed,
    });
    this.#sync = new Sync({
      ...shared,
      cache: this.#cache,
      recall: (session) => this.#recall.of(session),
      heldMax: this.#settings.heldEventsMax,
      heldBytesMax: this.#settings.heldBytesMax,
      requests: this.#requests,
      deliver: (event) => this.#deliver(event),
      listed: (conversation) => this.#conversations.listed(conversation),
      forgotten: (conversationId) => {
        this.#conversations.remove(conversationId);
        this.#timelines.reset(conversationId);
      },
      gap: (notice) => this.emitter.emit("gap", notice),
      synced: (session) => this.emitter.emit("synced", session),
      failed,
    });
    this.#renewal = new Renewal({
      ...shared,
      newToken: () => this.#connection.newToken(),
      renew: (token) => this.#requests.call("renew", () => renewToWire(token)),
      failed,
    });
    this.#connection = new Connection(this.#settings, {
      changed: (change) => {
        this.#change = change;
        if (change.state === "closed") this.#shut(change.error);
        else this.#waiters.failed(change.error);
        this.emitter.emit("state", change);
      },
      accept: (session) => this.#accept(session),
      loggedIn: (session) => this.#logIn(session),
      lost: () => {
        this.#renewal.stop();
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

  /** The last change of the state, with the error and the wait if there is one; the same object until the next. */
  get connection(): StateChange {
    return this.#change;
  }

  /** Who this is: the user of the last log-in, or the `owner` of the options. Undefined while nobody knows. */
  get self(): StoreOwner | undefined {
    return this.#session ?? this.#settings.owner;
  }

  /** The last log-in; undefined before the first. */
  get session(): Session | undefined {
    return this.#session;
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
    const { owner } = this.#settings;
    if (owner !== undefined) this.#recall.of(owner).catch((error: ParlanceError) => this.emitter.emit("error", error));
    this.#connection.open();
    return loggedIn;
  }

  /**
   * Ends: what is unanswered rejects with a ClosedError, and is not sent later either. `connect` opens it again, for the
   * same user.
   */
  close(): void {
    this.#connection.close();
  }

  /**
   * Closes, and deletes all that the store has of this user: for a log-out on a device of several people. Rejects when
   * nobody knows who that is (no log-in yet, and no `owner`), and when the store fails.
   */
  async forget(): Promise<void> {
    const owner = this.self;
    this.close();
    if (owner === undefined) throw new ParlanceError("not_logged_in", "whom to forget: give the option owner");
    await this.#cache.erase(owner);
  }

  /** The network may be back (call it on the platform's own sign): connects now instead of after the wait. */
  reconnectNow(): void {
    this.#connection.wake();
  }

  /** Resolves when the message is durable. Goes on over reconnects until `sendTimeoutMs`, and over reloads. */
  async send(options: SendOptions): Promise<SendResult> {
    const clientMessageId = options.clientMessageId ?? this.newMessageId();
    const timeMs = this.#time.now();
    const said = { target: targetOf(options), content: contentOf(options) };
    return this.#outbox.send({ ...said, clientMessageId, timeMs, left: false }, options.signal);
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
  async listConversations(
    options: { readonly after?: string; readonly limit?: number } = {},
  ): Promise<ConversationPage> {
    const { after = "", limit = 0 } = options;
    const page = await listPage(this.#requests, { after, limit }, () => this.#sync.pageBytes);
    return { conversations: page.conversations, nextAfter: page.nextAfter };
  }

  /** All conversations as known here, the latest first; the same array until one changes. Complete after `synced`. */
  readonly conversations = (): readonly Conversation[] => this.#conversations.all();

  /** One conversation as known here; the same object until it changes. */
  conversation(conversationId: string): Conversation | undefined {
    return this.#conversations.get(conversationId);
  }

  /** Calls `listener` after changes of any conversation, once for those that come together. Returns what stops it. */
  readonly watchConversations = (listener: () => void): (() => void) => this.#watchers.watch(ALL, listener);

  /** As `watchConversations`, for one. */
  watchConversation(conversationId: string, listener: () => void): () => void {
    return this.#watchers.watch(conversationId, listener);
  }

  /** A conversation as it is shown: its events, older ones as wanted, own messages on their way. With `to`: see below. */
  timeline(target: Target): Timeline {
    return this.#timelines.of("to" in target ? this.conversationIdWith(target.to) : target.conversationId);
  }

  /** The id of the direct conversation with a user, known from the first log-in on, or with the option `owner`. */
  conversationIdWith(userId: string): string {
    if (this.self === undefined) throw new ParlanceError("not_logged_in", "there was no log-in yet");
    return directConversationId(this.self.userId, userId);
  }

  /** Moves this user's read cursor to `seq`; it never moves back. */
  async markRead(options: Target & { readonly seq: number }): Promise<ReadResult> {
    const value = { target: readTarget(targetOf(options)), seq: options.seq };
    const answer = await this.#requests.call("markRead", () => ({ $case: "markRead", value }));
    const { conversationId, readSeq, unreadCount } = answer;
    this.#conversations.marked({ conversationId, readSeq, unreadCount });
    return { conversationId, readSeq, unreadCount };
  }

  #accept(session: Session): ParlanceError | undefined {
    const before = this.self;
    if (before !== undefined && (before.userId !== session.userId || before.appId !== session.appId)) {
      return new ParlanceError("user_changed", `getToken gave a token of ${session.userId}, not of ${before.userId}`);
    }
    this.#session = session;
    this.#time.learn(session.serverTimeMs);
    return undefined;
  }

  #logIn(session: Session): void {
    this.#requests.attach((frame) => this.#connection.write(frame), session.limits);
    this.#sync.start(session);
    // What an earlier run left unsent goes first; if it cannot be read, the rest does not wait for it.
    void this.#recall
      .of(session)
      .catch(() => {})
      .then(() => this.#outbox.online(session));
    this.#waiters.resolve(session);
  }

  #receive(frame: ServerFrame): void {
    if (frame.requestId !== 0) return this.#requests.answer(frame);
    const body = frame.body;
    if (body?.$case === "event") this.#sync.push(eventFromWire(body.value));
    else if (body?.$case === "readCursor") {
      this.#conversations.cursor(body.value.conversationId, body.value.userId, body.value.readSeq);
    } else if (body?.$case === "resync") this.#sync.resync(body.value.withinMs);
    else if (body?.$case === "reconnect") this.#connection.moveWithin(body.value.withinMs);
    else if (body?.$case === "tokenExpiring") this.#renewal.start();
  }

  #deliver(event: ConversationEvent): void {
    this.#conversations.delivered(event);
    this.#timelines.delivered(event);
    this.emitter.emit("event", event);
    if (event.type === "message") this.emitter.emit("message", event);
  }

  #failed(pending: PendingMessage, error: ParlanceError): void {
    if (this.self === undefined) return;
    // What the app closed over is no failure; what the cluster closed over is.
    const reason = error instanceof ClosedError && error.cause instanceof ParlanceError ? error.cause : error;
    this.#timelines.failed(conversationOf(pending, this.self.userId), pending, reason);
  }

  #unsent(message: PendingMessage, error: ParlanceError): void {
    // Nobody may look yet, and nobody else will say it.
    this.timeline(message.target).failed(message, error);
    this.emitter.emit("unsent", { message, error });
  }

  #shows(conversationId: string): void {
    this.#watchers.changed(ALL);
    this.#watchers.changed(conversationId);
  }

  #shut(cause: ParlanceError | undefined): void {
    const error = new ClosedError(cause);
    this.#sync.close();
    this.#outbox.close(error);
    this.#recall.close();
    this.#requests.close(error);
    this.#waiters.reject(cause ?? error);
  }
}
