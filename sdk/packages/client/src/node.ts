// Entry for Node.js: the transport on the `ws` package. Node.js 22 and later have a WebSocket of their own.
import WebSocket from "ws";
import type { Transport } from "./transport.js";
import { type WebSocketLike, webSocket } from "./transport/websocket.js";

/** Uses `ws`, which must be installed beside this package. It can tell what comes in of a frame before its end. */
export function nodeTransport(): Transport {
  return {
    connect(url, protocol, events) {
      const socket = new WebSocket(url, [protocol]);
      let bytes: (() => number) | undefined;
      socket.once("upgrade", ({ socket: tcp }) => {
        bytes = () => tcp.bytesRead;
      });
      return { ...webSocket(socket as unknown as WebSocketLike, events), received: () => bytes?.() };
    },
  };
}
