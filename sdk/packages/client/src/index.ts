// The public door.
export type { BackoffOptions } from "./backoff.js";
export type { CancelSignal } from "./cancel.js";
export { ParlanceClient } from "./client.js";
export { type Clock, systemClock, type Timer } from "./clock.js";
export { type CloseAction, CloseCode, closeAction, type ErrorName } from "./codes.js";
export {
  AppError,
  CancelledError,
  ClosedError,
  ConflictError,
  ConnectionError,
  type ErrorDetails,
  InternalError,
  ParlanceError,
  PermissionError,
  ProtocolError,
  QueueFullError,
  ReplacedError,
  RequestError,
  StateError,
  TimedOutError,
  TokenError,
  UnavailableError,
  VersionError,
} from "./errors.js";
export type {
  ClientEvents,
  ConnectionState,
  GapNotice,
  Listener,
  ReadChange,
  StateChange,
  UnsentNotice,
} from "./events.js";
export type { HistoryOptions } from "./history.js";
export { directConversationId } from "./ids.js";
export { jsonOf } from "./json.js";
export type { Locks } from "./locks.js";
export type {
  Content,
  Conversation,
  ConversationEvent,
  ConversationPage,
  EventBase,
  HistoryPage,
  ConversationMessage,
  Limits,
  PendingMessage,
  ReadResult,
  SendResult,
  Session,
  Target,
  UnknownEvent,
} from "./model.js";
export type { ClientOptions, Credentials, GivenToken, TokenReason } from "./options.js";
export { platformRandom, type RandomSource } from "./random.js";
export type { Said, SendOptions } from "./sending.js";
export type { Changes, Store, StoreOwner } from "./store.js";
export { type IndexedDbFactory, IndexedDbStore } from "./store/indexed-db.js";
export {
  type KeyValueStorage,
  KeyValueStore,
  type WebStorage,
  type WeChatStorageApi,
  weChatStorage,
  webStorage,
} from "./store/key-value.js";
export { MemoryStore } from "./store/memory.js";
export type { StreamOptions } from "./stream.js";
export type { ShownPending, Timeline, TimelineSnapshot } from "./timeline.js";
export type { Socket, SocketEvents, Transport } from "./transport.js";
export { type WeChat, type WeChatSocketTask, weChatTransport } from "./transport/wechat.js";
export { type WebSocketConstructor, type WebSocketLike, webSocketTransport } from "./transport/websocket.js";
export type { ConnectOptions } from "./waiters.js";
