// Gateways on real sockets in front of a fake cluster; they serve a folder of files too.
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { extname, join, normalize } from "node:path";
import { WebSocketServer } from "ws";
import type { FakeCluster } from "./fake-cluster.js";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

/** The strictest policy that the page has to live with. */
const POLICY = "default-src 'self'; connect-src *";

export class WsGateway {
  readonly cluster: FakeCluster;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(cluster: FakeCluster, pageDir: string | undefined) {
    this.cluster = cluster;
    this.#server = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://x").pathname;
      const name = normalize(path === "/" ? "/index.html" : path);
      readFile(join(pageDir ?? "/nowhere", name)).then(
        (bytes) => {
          const type = TYPES[extname(name)] ?? "application/octet-stream";
          response.writeHead(200, { "content-type": type, "content-security-policy": POLICY }).end(bytes);
        },
        () => response.writeHead(404).end(),
      );
    });
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    const sockets = new WebSocketServer({
      server: this.#server,
      path: "/ws",
      handleProtocols: (offered) => (offered.has("parlance.v1") ? "parlance.v1" : false),
    });
    sockets.on("connection", (socket) => {
      const session = cluster.accept({
        deliver: (bytes) => socket.send(bytes),
        close: (code) => socket.close(code),
      });
      socket.on("message", (data: Buffer) => session.receive(new Uint8Array(data)));
      socket.on("close", () => session.closed());
    });
  }

  static async start(cluster: FakeCluster, pageDir?: string, port = 0): Promise<WsGateway> {
    const gateway = new WsGateway(cluster, pageDir);
    await new Promise<void>((resolve) => gateway.#server.listen(port, "127.0.0.1", resolve));
    return gateway;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  /** Breaks every connection, without a close frame. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    const stopped = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await stopped;
  }
}
