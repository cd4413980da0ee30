// A TCP proxy in front of a gateway, so that a test can break connections and slow them down without touching the
// gateway.
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** What a slow line does to the bytes from the gateway. */
export interface ProxyLine {
  readonly bytesPerSecond: number;
  readonly roundTripMs: number;
  /** So many of 100 pieces of 1 KiB stand still for `stallMs` first. */
  readonly stallPercent: number;
  readonly stallMs: number;
}

const PIECE = 1024;

/** Passes bytes on as a slow line does. Reads no more meanwhile: the sender's buffers fill. */
function slowly(from: Socket, to: Socket, line: ProxyLine): void {
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  let pieces = 0;
  const pass = async (bytes: Buffer): Promise<void> => {
    for (let at = 0; at < bytes.length; at += PIECE) {
      const piece = bytes.subarray(at, at + PIECE);
      pieces += 1;
      // Spread evenly: 37 has no divisor in common with 100.
      const stall = (pieces * 37) % 100 < line.stallPercent ? line.stallMs : 0;
      await pause((piece.length * 1_000) / line.bytesPerSecond + stall);
      setTimeout(() => to.writable && to.write(piece), line.roundTripMs / 2);
    }
  };
  from.on("data", (bytes: Buffer) => {
    from.pause();
    void pass(bytes).then(() => from.resume());
  });
  from.on("end", () => setTimeout(() => to.end(), line.roundTripMs / 2));
}

export class TcpProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** New connections are refused. */
  down = false;

  private constructor(target: URL, line: ProxyLine | undefined) {
    this.#server = createServer((client) => {
      if (this.down) {
        client.destroy();
        return;
      }
      const gateway = connect(Number(target.port), target.hostname);
      for (const [from, to] of [
        [client, gateway],
        [gateway, client],
      ] as const) {
        this.#sockets.add(from);
        if (line === undefined) from.pipe(to);
        else slowly(from, to, from === client ? { ...line, bytesPerSecond: Number.POSITIVE_INFINITY } : line);
        from.on("error", () => to.destroy());
        from.on("close", () => {
          this.#sockets.delete(from);
          to.destroy();
        });
      }
    });
  }

  static async start(url: string, line?: ProxyLine): Promise<TcpProxy> {
    const proxy = new TcpProxy(new URL(url), line);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}/ws`;
  }

  /** Breaks every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    const stopped = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await stopped;
  }
}
