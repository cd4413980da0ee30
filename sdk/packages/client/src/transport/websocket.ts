// Transport on anything with the WebSocket interface of browsers.
import type { Socket, SocketEvents, Transport } from "../transport.js";

/** The part of a WebSocket that is used. */
export interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

/** A class such as the browser's `WebSocket`. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

declare const WebSocket: WebSocketConstructor | undefined;

/** Uses `socketClass`, or the platform's own WebSocket. */
export function webSocketTransport(socketClass?: WebSocketConstructor): Transport {
  const chosen = socketClass ?? (typeof WebSocket === "undefined" ? undefined : WebSocket);
  if (chosen === undefined) {
    throw new TypeError(
      "this platform has no WebSocket: pass a transport, in Node.js nodeTransport() of @parlance/client/node",
    );
  }
  return { connect: (url, protocol, events) => webSocket(new chosen(url, [protocol]), events) };
}

/** A socket that is being opened. */
export function webSocket(socket: WebSocketLike, events: SocketEvents): Socket {
  let ended = false;
  socket.binaryType = "arraybuffer";
  socket.onopen = () => events.opened();
  socket.onmessage = (event: { data: unknown }) => {
    // A text message is none of ours: an empty frame makes the reader refuse it.
    events.received(event.data instanceof ArrayBuffer ? new Uint8Array(event.data) : new Uint8Array(0));
  };
  // The close event that follows has all there is to know.
  socket.onerror = () => {};
  socket.onclose = (event: { code: number; reason: string }) => {
    if (ended) return;
    ended = true;
    events.closed(event.code, event.reason);
  };
  return {
    send: (frame) => socket.send(frame as Uint8Array<ArrayBuffer>),
    close: (code, reason) => socket.close(code, reason),
  };
}
