// Entry for Node.js: the transport on the `ws` package. Node.js 22 and later have a WebSocket of their own.
import WebSocket from "ws";
import type { Transport } from "./transport.js";
import { type WebSocketConstructor, webSocketTransport } from "./transport/websocket.js";

/** Uses `ws`, which must be installed beside this package. */
export function nodeTransport(): Transport {
  return webSocketTransport(WebSocket as unknown as WebSocketConstructor);
}
