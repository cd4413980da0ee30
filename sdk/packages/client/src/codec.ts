// Frames ↔ bytes, wire values ↔ what the app sees. The only file that knows the generated code.
import { configureTextEncoding } from "@bufbuild/protobuf/wire";
import {
  type Conversation as WireConversation,
  ConversationKind,
  Direction,
  type HistoryResponse,
} from "./gen/parlance/client/v1/conversation.js";
import { ClientFrame, ServerFrame } from "./gen/parlance/client/v1/frame.js";
import type { Content as WireContent, Event as WireEvent } from "./gen/parlance/client/v1/message.js";
import type { LoginResponse } from "./gen/parlance/client/v1/session.js";
import type { Content, Conversation, ConversationEvent, HistoryPage, Session, Target } from "./model.js";
import type { Credentials } from "./options.js";
import { decodeUtf8, encodeUtf8 } from "./utf8.js";
import { CAPABILITIES, PROTOCOLS, VERSION } from "./version.js";

/** The WebSocket subprotocol of these frames. */
export const SUBPROTOCOL = "parlance.v1";

/** What a client asks. */
export type RequestBody = NonNullable<ClientFrame["body"]>;
/** What a gateway answers or pushes. */
export type ServerBody = NonNullable<ServerFrame["body"]>;
export type { ServerFrame };

declare const TextEncoder: unknown;
declare const TextDecoder: unknown;

if (typeof TextEncoder === "undefined" || typeof TextDecoder === "undefined") {
  configureTextEncoding({ encodeUtf8, decodeUtf8, checkUtf8: isWellFormed });
}

function isWellFormed(text: string): boolean {
  return !/[\ud800-\udbff](?![\udc00-\udfff])|(?:[^\ud800-\udbff]|^)[\udc00-\udfff]/.test(text);
}

export function encodeRequest(requestId: number, body: RequestBody): Uint8Array {
  return ClientFrame.encode({ requestId, body }).finish();
}

/** Throws on bytes that are not a frame. */
export function decodeFrame(bytes: Uint8Array): ServerFrame {
  if (bytes.length === 0) throw new RangeError("an empty or a text message is not a frame");
  return ServerFrame.decode(bytes);
}

export function contentToWire(content: Content): WireContent {
  if (content.type === "text") return { kind: { $case: "text", value: content.text } };
  if (content.type === "custom") {
    return { kind: { $case: "custom", value: { type: content.customType, data: content.data } } };
  }
  throw new TypeError("content must be text or custom");
}

/** What is not said of app and user is left to the token. */
export function loginToWire(credentials: Credentials, platform: string, deviceId: string): RequestBody {
  const { token, appId = "", userId = "", extra = {} } = credentials;
  const told = { token, appId, userId, extra: { ...extra }, platform, deviceId, clientVersion: VERSION };
  return { $case: "login", value: { ...told, protocol: PROTOCOLS, capabilities: [...CAPABILITIES] } };
}

/** The session knows its app and user. */
export function renewToWire({ token, extra = {} }: Credentials): {
  $case: "renew";
  value: { token: string; extra: Record<string, string> };
} {
  return { $case: "renew", value: { token, extra: { ...extra } } };
}

/** The two ways to name a conversation, for history and read cursors. */
export function readTarget(
  target: Target,
): { $case: "withUser"; value: string } | { $case: "conversationId"; value: string } {
  return "to" in target
    ? { $case: "withUser", value: target.to }
    : { $case: "conversationId", value: target.conversationId };
}

export function directionToWire(direction: "backward" | "forward"): Direction {
  return direction === "forward" ? Direction.DIRECTION_FORWARD : Direction.DIRECTION_BACKWARD;
}

export function eventFromWire(event: WireEvent): ConversationEvent {
  const { conversationId, seq, timeMs, sender, body } = event;
  const base = { conversationId, seq, timeMs, sender };
  if (body?.$case !== "message") return { ...base, type: "unknown" };
  const { clientMessageId, content } = body.value;
  return { ...base, type: "message", clientMessageId, content: contentFromWire(content) };
}

function contentFromWire(content: WireContent | undefined): Content {
  const kind = content?.kind;
  if (kind?.$case === "text") return { type: "text", text: kind.value };
  if (kind?.$case === "custom") return { type: "custom", customType: kind.value.type, data: kind.value.data };
  return { type: "unknown" };
}

export function conversationFromWire(wire: WireConversation): Conversation {
  return {
    conversationId: wire.conversationId,
    kind: wire.kind === ConversationKind.CONVERSATION_KIND_DIRECT ? "direct" : "unknown",
    peer: wire.peer,
    headSeq: wire.headSeq,
    readSeq: wire.readSeq,
    peerReadSeq: wire.peerReadSeq,
    unreadCount: wire.unreadCount,
    lastEvent: wire.lastEvent === undefined ? undefined : eventFromWire(wire.lastEvent),
    ...(wire.headUnknown && { headUnknown: true }),
  };
}

export function historyFromWire(wire: HistoryResponse): HistoryPage {
  return {
    conversationId: wire.conversationId,
    events: wire.events.map(eventFromWire),
    headSeq: wire.headSeq,
    more: wire.more,
  };
}

/** Limits that a gateway leaves out (0) get what every gateway accepts. */
export function sessionFromWire(wire: LoginResponse, gateway: string): Session {
  return {
    sessionId: wire.sessionId,
    appId: wire.appId,
    userId: wire.userId,
    serverTimeMs: wire.serverTimeMs,
    gateway,
    limits: {
      frameBytesMax: wire.limits?.frameBytesMax || 64 * 1024,
      contentBytesMax: wire.limits?.contentBytesMax || 32 * 1024,
      requestsInFlightMax: wire.limits?.requestsInFlightMax || 16,
      historyEventsMax: wire.limits?.historyEventsMax || 50,
      idleTimeoutMs: wire.limits?.idleTimeoutMs || 60_000,
    },
    protocol: wire.protocol,
    capabilities: wire.capabilities,
  };
}
