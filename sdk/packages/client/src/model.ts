// What the app sees: plain values, apart from the wire.

/** What a message carries. */
export type Content =
  | { readonly type: "text"; readonly text: string }
  /** Bytes that only the app understands. */
  | { readonly type: "custom"; readonly customType: number; readonly data: Uint8Array }
  /** A kind that is newer than this library. */
  | { readonly type: "unknown" };

/** What all events of a conversation have in common. */
export interface EventBase {
  /** Begins with the kind: `d:` two users, `g:` a group, `r:` a room. */
  readonly conversationId: string;
  /** 1, 2, 3 … without gaps. */
  readonly seq: number;
  /** The cluster's time when the event was put in order, in ms since 1970 UTC. */
  readonly timeMs: number;
  /** The user whose doing it is. */
  readonly sender: string;
}

/** Somebody said something. */
export interface ConversationMessage extends EventBase {
  readonly type: "message";
  readonly clientMessageId: string;
  readonly content: Content;
}

/** An event of a kind that is newer than this library. */
export interface UnknownEvent extends EventBase {
  readonly type: "unknown";
}

/** One entry of a conversation's log. */
export type ConversationEvent = ConversationMessage | UnknownEvent;

/** A conversation as this user sees it. */
export interface Conversation {
  readonly conversationId: string;
  readonly kind: "direct" | "unknown";
  /** The other user of a direct conversation. */
  readonly peer: string;
  /** The newest seq. */
  readonly headSeq: number;
  /** How far this user has read. */
  readonly readSeq: number;
  /** How far the other user has read. */
  readonly peerReadSeq: number;
  /** Messages of others behind `readSeq`. */
  readonly unreadCount: number;
  /** For previews: after a log-in a long text may be cut short. */
  readonly lastEvent: ConversationEvent | undefined;
  /** Its shard could not be asked: only id, kind and peer are known. On pages of `listConversations` only; ask again later. */
  readonly headUnknown?: boolean;
}

/** A message of this user that is not acknowledged yet. */
export interface PendingMessage {
  readonly target: Target;
  readonly clientMessageId: string;
  readonly content: Content;
  /**
   * In ms since 1970 UTC: when it first went out, by the cluster's time; before that when it was written, by the clock
   * of this device.
   */
  readonly timeMs: number;
  /** It went out: it may have been stored. */
  readonly left: boolean;
}

/** Either the other user of a direct conversation, or the id of a conversation. */
export type Target = { readonly to: string } | { readonly conversationId: string };

/** A message is on disk on a majority of its shard's replicas. */
export interface SendResult {
  readonly conversationId: string;
  readonly seq: number;
  readonly timeMs: number;
  readonly clientMessageId: string;
  /** The id had been stored before; `seq` and `timeMs` are those of the first time. */
  readonly duplicate: boolean;
}

/** A piece of a conversation's log, in ascending `seq`. */
export interface HistoryPage {
  readonly conversationId: string;
  readonly events: readonly ConversationEvent[];
  readonly headSeq: number;
  /** There are more events in the direction asked for. */
  readonly more: boolean;
}

/** A page of the conversation list, ordered by id. */
export interface ConversationPage {
  readonly conversations: readonly Conversation[];
  /** Pass it as `after` for the next page; empty when this was the last. */
  readonly nextAfter: string;
}

/** Where this user's read cursor stands now. */
export interface ReadResult {
  readonly conversationId: string;
  readonly readSeq: number;
  readonly unreadCount: number;
}

/** What the gateway accepts. */
export interface Limits {
  readonly frameBytesMax: number;
  readonly contentBytesMax: number;
  readonly requestsInFlightMax: number;
  readonly historyEventsMax: number;
  readonly idleTimeoutMs: number;
}

/** Who is logged in, and where. */
export interface Session {
  readonly sessionId: string;
  readonly appId: string;
  readonly userId: string;
  readonly serverTimeMs: number;
  readonly gateway: string;
  readonly limits: Limits;
  /** The version of the protocol that is spoken. */
  readonly protocol: number;
  /** What the gateway can do beyond that version, of what this library can do too. */
  readonly capabilities: readonly string[];
}
