// Sockets without a network, onto a fake cluster. A test can refuse, cut and silence them.
import type { Socket, SocketEvents, Transport } from "../../src/index.js";
import type { FakeCluster, FakeSession } from "./fake-cluster.js";

export class FakeLink {
  readonly url: string;
  readonly protocol: string;
  readonly session: FakeSession;
  readonly #events: SocketEvents;
  #open = true;
  /** Nothing passes, but nobody is told: a half-open connection. */
  silent = false;

  constructor(cluster: FakeCluster, url: string, protocol: string, events: SocketEvents) {
    this.url = url;
    this.protocol = protocol;
    this.#events = events;
    this.session = cluster.accept({
      deliver: (bytes) => this.deliver(bytes),
      // Behind what is delivered.
      close: (code) => queueMicrotask(() => this.cut(code)),
    });
  }

  get open(): boolean {
    return this.#open;
  }

  /** To the client. */
  deliver(bytes: Uint8Array): void {
    queueMicrotask(() => {
      if (this.#open && !this.silent) this.#events.received(bytes);
    });
  }

  /** From the client. */
  write(bytes: Uint8Array): void {
    if (this.#open && !this.silent) this.session.receive(bytes);
  }

  /** The gateway's end closes. */
  cut(code = 1006): void {
    if (!this.#open) return;
    this.forget();
    this.#events.closed(code, "");
  }

  forget(): void {
    this.#open = false;
    this.session.closed();
  }
}

export class FakeTransport implements Transport {
  readonly links: FakeLink[] = [];
  readonly #cluster: FakeCluster;
  /** Addresses that cannot be reached. */
  readonly down = new Set<string>();

  constructor(cluster: FakeCluster) {
    this.#cluster = cluster;
  }

  get last(): FakeLink {
    const link = this.links.at(-1);
    if (link === undefined) throw new Error("nobody connected");
    return link;
  }

  connect(url: string, protocol: string, events: SocketEvents): Socket {
    if (this.down.has(url)) {
      queueMicrotask(() => events.closed(1006, ""));
      return { send: () => {}, close: () => {} };
    }
    const link = new FakeLink(this.#cluster, url, protocol, events);
    this.links.push(link);
    queueMicrotask(() => {
      if (link.open) events.opened();
    });
    return { send: (frame) => link.write(frame), close: () => link.forget() };
  }
}
