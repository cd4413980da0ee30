// The seam to a socket: everything the library needs from a platform's WebSocket.

/** What happens to a socket. After `closed` nothing else happens. */
export interface SocketEvents {
  opened(): void;
  received(frame: Uint8Array): void;
  /** Also when the connection could not be made; 1006 when there is no code. */
  closed(code: number, reason: string): void;
}

/** One socket. */
export interface Socket {
  /** Called only between `opened` and `closed`; the bytes are not changed afterwards. */
  send(frame: Uint8Array): void;
  /** The socket's own `closed` may or may not follow. */
  close(code: number, reason: string): void;
  /** Bytes that came in so far, those of unfinished frames too. Left out where the platform cannot tell. */
  received?(): number | undefined;
}

/** Opens sockets. May throw; that counts as a connection that could not be made. */
export interface Transport {
  connect(url: string, protocol: string, events: SocketEvents): Socket;
}
