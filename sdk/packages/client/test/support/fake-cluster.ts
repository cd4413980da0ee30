// A cluster in memory that speaks the client protocol: enough to test the client against, without promises of its own.
// Tokens have the form `user`, `user!expired` or `user!invalid`, or are JWTs of that as the user.
import type { ClientFrame, ServerFrame } from "../../src/gen/parlance/client/v1/frame.js";
import {
  Conversation,
  ConversationKind,
  type ConversationsRequest,
  Direction,
  type HistoryRequest,
} from "../../src/gen/parlance/client/v1/conversation.js";
import { Content, Event, type SendRequest } from "../../src/gen/parlance/client/v1/message.js";
import type { LoginRequest } from "../../src/gen/parlance/client/v1/session.js";
import { ErrorCode, type VersionRange } from "../../src/gen/parlance/common/v1/error.js";
import { CloseCode } from "../../src/codes.js";
import { type FakeSocket, FakeSession, Refused } from "./fake-session.js";
import { directConversationId } from "../../src/ids.js";

export { FakeSession };

type ServerBody = NonNullable<ServerFrame["body"]>;
type ClientBody = NonNullable<ClientFrame["body"]>;

interface StoredConversation {
  readonly id: string;
  readonly users: readonly [string, string];
  readonly events: Event[];
  readonly read: Map<string, number>;
  /** When lists heard of it last; 0 for never. */
  touched: number;
}

/** Every field as it is when nobody sets it. */
const NOTHING_KNOWN = Conversation.decode(new Uint8Array());
/** No answer of a gateway is larger. */
const ANSWER_BYTES_MAX = 64 * 1024;

/** The first so many, but no more bytes than so many; one is always there. */
function within<T>(all: readonly T[], count: number, bytes: number, size: (one: T) => number): T[] {
  const taken: T[] = [];
  let used = 0;
  for (const one of all.slice(0, count)) {
    used += size(one);
    if (taken.length > 0 && used > bytes) break;
    taken.push(one);
  }
  return taken;
}

function userOf(token: string): string {
  const [, claims] = token.split(".");
  if (claims === undefined) return token;
  return (JSON.parse(Buffer.from(claims, "base64url").toString()) as { sub: string }).sub;
}

let clusters = 0;
function incarnation(): string {
  clusters += 1;
  return String(clusters);
}

export class FakeCluster {
  readonly sessions = new Set<FakeSession>();
  /** Every request, in the order of arrival. */
  readonly requests: ClientBody[] = [];
  readonly #conversations = new Map<string, StoredConversation>();
  /** Called before a send is stored; may throw by `refuse`, or return true to swallow the answer. */
  beforeSend: ((request: SendRequest, session: FakeSession) => boolean | undefined) | undefined;
  /** Events for which this says false are not pushed. */
  pushes: (event: Event, session: FakeSession) => boolean = () => true;
  /** Conversations whose shard has no majority. */
  readonly lost = new Set<string>();
  /** Brings what was stored to the lists and sessions of its users: at once, unless a test holds it back. */
  relay: (deliver: () => void) => void = (deliver) => deliver();
  /** Conversations that lists showed, and that were asked for by their ids. */
  shown = 0;
  /** What cursors are of. */
  readonly #incarnation = incarnation();
  /** Rises with each conversation that lists hear of again: cursors point to it. */
  #touches = 0;
  /** The versions of the protocol that it speaks. */
  protocols: VersionRange = { min: 1, max: 1 };
  /** What it can do beyond them. */
  capabilities: readonly string[] = ["ordered_sends"];
  now = 1_700_000_000_000;
  #sessionCount = 0;

  accept(socket: FakeSocket): FakeSession {
    const session = new FakeSession(this, socket);
    this.sessions.add(session);
    return session;
  }

  refuse(code: ErrorCode, retryAfterMs = 0, closeCode = 0): never {
    throw new Refused(code, retryAfterMs, closeCode);
  }

  /** Stores a message as if another session had sent it. */
  say(from: string, to: string, text: string, clientMessageId = `${from}-${this.now}`): Event {
    const content: Content = { kind: { $case: "text", value: text } };
    return this.#store(from, to, clientMessageId, content, undefined).event;
  }

  read(user: string, peer: string, seq: number): void {
    this.#markRead(this.#between(user, peer), user, seq);
  }

  /** Retention: drops all events before `seq`. */
  drop(a: string, b: string, before: number): void {
    const { events } = this.#between(a, b);
    events.splice(
      0,
      events.findIndex((event) => event.seq >= before),
    );
  }

  /** The whole log of two users. */
  log(a: string, b: string): readonly Event[] {
    return this.#between(a, b).events;
  }

  pushAll(body: ServerBody): void {
    for (const session of this.sessions) if (session.user !== "") session.push(body);
  }

  handle(session: FakeSession, body: ClientBody): ServerBody | undefined {
    if (body.$case === "ping") return { $case: "ping", value: { serverTimeMs: this.now } };
    if (body.$case === "login") return this.#login(session, body.value);
    if (session.user === "") this.refuse(ErrorCode.ERROR_CODE_NOT_LOGGED_IN);
    switch (body.$case) {
      case "send":
        return this.#send(session, body.value);
      case "history":
        return this.#history(this.#target(session, body.value.target), body.value);
      case "conversations":
        return this.#list(session.user, body.value);
      case "markRead": {
        const conversation = this.#target(session, body.value.target);
        this.#markRead(conversation, session.user, body.value.seq);
        const { readSeq, unreadCount } = this.#seen(conversation, session.user);
        return { $case: "markRead", value: { conversationId: conversation.id, readSeq, unreadCount } };
      }
      case "renew":
        this.#userOf(body.value.token, 0);
        return { $case: "renew", value: { tokenExpiresMs: 0 } };
    }
  }

  #userOf(token: string, closeCode: number): string {
    const [user = "", problem] = userOf(token).split("!");
    if (problem === "expired") this.refuse(ErrorCode.ERROR_CODE_TOKEN_EXPIRED, 0, closeCode);
    if (problem !== undefined) this.refuse(ErrorCode.ERROR_CODE_TOKEN_INVALID, 0, closeCode);
    return user;
  }

  #login(session: FakeSession, request: LoginRequest): ServerBody {
    const theirs = request.protocol ?? { min: 1, max: 1 };
    const protocol = Math.min(theirs.max, this.protocols.max);
    if (protocol < Math.max(theirs.min, this.protocols.min)) {
      this.refuse(ErrorCode.ERROR_CODE_UNSUPPORTED, 0, CloseCode.unsupported);
    }
    const user = this.#userOf(request.token, CloseCode.tokenRefused);
    this.#sessionCount += 1;
    session.user = user;
    session.id = `s${this.#sessionCount}`;
    const limits = {
      frameBytesMax: 64 * 1024,
      contentBytesMax: 32 * 1024,
      requestsInFlightMax: 64,
      historyEventsMax: 200,
      idleTimeoutMs: 60_000,
    };
    const who = { sessionId: session.id, appId: "demo", userId: user };
    const capabilities = request.capabilities.filter((name) => this.capabilities.includes(name));
    return {
      $case: "login",
      value: { ...who, serverTimeMs: this.now, limits, protocol, capabilities, tokenExpiresMs: 0 },
    };
  }

  #send(session: FakeSession, request: SendRequest): ServerBody | undefined {
    if (this.beforeSend?.(request, session)) return undefined;
    const peer =
      request.target?.$case === "toUser"
        ? request.target.value
        : this.#target(session, request.target).users.find((user) => user !== session.user);
    if (peer === undefined || peer === session.user || request.content === undefined) {
      this.refuse(ErrorCode.ERROR_CODE_INVALID_ARGUMENT);
    }
    const { event, duplicate } = this.#store(session.user, peer, request.clientMessageId, request.content, session);
    const { conversationId, seq, timeMs } = event;
    return { $case: "send", value: { conversationId, seq, timeMs, duplicate } };
  }

  #store(from: string, to: string, clientMessageId: string, content: Content, except: FakeSession | undefined) {
    const conversation = this.#between(from, to);
    for (const event of conversation.events) {
      if (event.sender !== from || event.body?.value.clientMessageId !== clientMessageId) continue;
      const same =
        String(Content.encode(event.body.value.content ?? content).finish()) ===
        String(Content.encode(content).finish());
      if (!same) this.refuse(ErrorCode.ERROR_CODE_CONFLICT);
      return { event, duplicate: true };
    }
    this.now += 1;
    const seq = (conversation.events.at(-1)?.seq ?? 0) + 1;
    const event: Event = {
      conversationId: conversation.id,
      seq,
      timeMs: this.now,
      sender: from,
      body: { $case: "message", value: { clientMessageId, content } },
    };
    conversation.events.push(event);
    this.#relay(conversation, (session) => {
      if (session !== except && this.pushes(event, session)) session.push({ $case: "event", value: event });
    });
    return { event, duplicate: false };
  }

  #history(conversation: StoredConversation, request: HistoryRequest): ServerBody {
    const { id, events } = conversation;
    const { startSeq: start, limit, direction, maxBytes } = request;
    const forward = direction === Direction.DIRECTION_FORWARD;
    const inRange = events.filter((event) => start === 0 || (forward ? event.seq >= start : event.seq <= start));
    if (!forward) inRange.reverse();
    const bytes = Math.min(maxBytes || ANSWER_BYTES_MAX, ANSWER_BYTES_MAX);
    const page = within(inRange, limit || 50, bytes, (event) => Event.encode(event).finish().length);
    if (!forward) page.reverse();
    const headSeq = events.at(-1)?.seq ?? 0;
    return {
      $case: "history",
      value: { conversationId: id, events: page, headSeq, more: inRange.length > page.length },
    };
  }

  #list(user: string, request: ConversationsRequest): ServerBody {
    const { after, limit, maxBytes, since, conversationIds } = request;
    const [incarnation, number] = (since ?? "").split(".");
    const [kind, generation = "", ...id] = after.split(" ");
    const changesOnly = kind === "c" || (after === "" && incarnation === this.#incarnation);
    const from = kind === "c" ? Number(generation) : Number(number);
    const place = (c: StoredConversation): string =>
      changesOnly ? `c ${String(c.touched).padStart(9, "0")} ${c.id}` : c.id;
    const begin = kind === "c" ? `c ${generation} ${id.join(" ")}` : after;
    const isListed = (c: StoredConversation): boolean =>
      c.touched > 0 && place(c) > begin && (!changesOnly || c.touched >= from);
    const nobody = { users: [user, user] as const, events: [], read: new Map<string, number>(), touched: 0 };
    const asked = conversationIds.map((id) => this.#conversations.get(id) ?? { id, ...nobody });
    const listed = [...this.#conversations.values()].filter((c) => c.users.includes(user) && isListed(c));
    listed.sort((a, b) => (place(a) < place(b) ? -1 : 1));
    const all = (conversationIds.length > 0 ? asked : listed).map((c) => ({
      place: place(c),
      row: this.#row(c, user),
    }));
    const bytes = Math.min(maxBytes || ANSWER_BYTES_MAX, ANSWER_BYTES_MAX);
    const page = within(all, limit || 100, bytes, ({ row }) => Conversation.encode(row).finish().length);
    this.shown += page.length;
    const hasList = [...this.#conversations.values()].some((c) => c.users.includes(user) && c.touched > 0);
    const isWanted = hasList && after === "" && since !== undefined;
    const cursor = isWanted ? `${this.#incarnation}.${this.#touches + 1}` : "";
    const last = conversationIds.length > 0 ? page.at(-1)?.row.conversationId : page.at(-1)?.place;
    const nextAfter = all.length > page.length ? (last ?? "") : "";
    const conversations = page.map(({ row }) => row);
    return { $case: "conversations", value: { conversations, nextAfter, cursor, changesOnly } };
  }

  #row(conversation: StoredConversation, user: string): Conversation {
    const seen = this.#seen(conversation, user);
    if (!this.lost.has(conversation.id)) return seen;
    const nothing = { headSeq: 0, readSeq: 0, peerReadSeq: 0, unreadCount: 0, lastEvent: undefined };
    return { ...seen, ...nothing, headUnknown: true };
  }

  #seen(conversation: StoredConversation, user: string): Conversation {
    const { id, users, events, read } = conversation;
    const peer = users.find((other) => other !== user) ?? "";
    const readSeq = read.get(user) ?? 0;
    return {
      ...NOTHING_KNOWN,
      conversationId: id,
      kind: ConversationKind.CONVERSATION_KIND_DIRECT,
      peer,
      headSeq: events.at(-1)?.seq ?? 0,
      readSeq,
      peerReadSeq: read.get(peer) ?? 0,
      unreadCount: events.filter((event) => event.seq > readSeq && event.sender !== user).length,
      lastEvent: events.at(-1),
    };
  }

  #markRead(conversation: StoredConversation, user: string, seq: number): void {
    const { id, events, read } = conversation;
    const readSeq = Math.min(seq, events.at(-1)?.seq ?? 0);
    if (readSeq <= (read.get(user) ?? 0)) return;
    read.set(user, readSeq);
    this.#relay(conversation, (session) => {
      session.push({ $case: "readCursor", value: { conversationId: id, userId: user, readSeq } });
    });
  }

  #relay(conversation: StoredConversation, push: (session: FakeSession) => void): void {
    this.relay(() => {
      this.#touches += 1;
      conversation.touched = this.#touches;
      for (const session of this.sessions) if (conversation.users.includes(session.user)) push(session);
    });
  }

  #target(session: FakeSession, target: { $case: string; value: string } | undefined): StoredConversation {
    if (target?.$case === "withUser") return this.#between(session.user, target.value);
    const conversation = this.#conversations.get(target?.value ?? "");
    if (conversation === undefined) this.refuse(ErrorCode.ERROR_CODE_NOT_FOUND);
    if (!conversation.users.includes(session.user)) this.refuse(ErrorCode.ERROR_CODE_PERMISSION_DENIED);
    return conversation;
  }

  #between(a: string, b: string): StoredConversation {
    const id = directConversationId(a, b);
    const known = this.#conversations.get(id) ?? {
      id,
      users: [a, b] as const,
      events: [],
      read: new Map(),
      touched: 0,
    };
    this.#conversations.set(id, known);
    return known;
  }
}
