// Sockets without a network, onto a fake cluster. A test can refuse, cut and silence them.
import type { Socket, SocketEvents, Transport } from "../../src/index.js";
import type { FakeCluster, FakeSession } from "./fake-cluster.js";
import type { SlowLine, TooSlow } from "./slow-line.js";

export class FakeLink {
  readonly url: string;
  readonly protocol: string;
  readonly session: FakeSession;
  readonly line: SlowLine | undefined;
  readonly #events: SocketEvents;
  #open = true;
  /** The gateway gave the client up. */
  tooSlow: TooSlow | undefined;
  /** Nothing passes, but nobody is told: a half-open connection. */
  silent = false;

  /** Bytes that came in. */
  received = 0;

  constructor(cluster: FakeCluster, url: string, protocol: string, events: SocketEvents, line?: SlowLine) {
    this.line = line;
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
    const arrived = (): void => {
      if (!this.#open || this.silent) return;
      this.received += bytes.length;
      this.#events.received(bytes);
    };
    if (this.line === undefined) return queueMicrotask(arrived);
    this.line.down(bytes, arrived, (why) => {
      this.tooSlow = why;
      this.cut(4100);
    });
  }

  /** From the client. */
  write(bytes: Uint8Array): void {
    const arrived = (): void => {
      if (this.#open && !this.silent) this.session.receive(bytes);
    };
    if (this.line === undefined) arrived();
    else this.line.up(arrived);
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
  /** Makes the line of each connection, if it is no perfect one. */
  line: (() => SlowLine) | undefined;

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
    const link = new FakeLink(this.#cluster, url, protocol, events, this.line?.());
    this.links.push(link);
    queueMicrotask(() => {
      if (link.open) events.opened();
    });
    const received = (): number | undefined => link.line?.received();
    return { send: (frame) => link.write(frame), close: () => link.forget(), received };
  }
}
