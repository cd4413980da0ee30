// One session of the fake cluster.
import { CloseCode } from "../../src/codes.js";
import { ClientFrame, ServerFrame } from "../../src/gen/parlance/client/v1/frame.js";
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import type { FakeCluster } from "./fake-cluster.js";

type ServerBody = NonNullable<ServerFrame["body"]>;

/** What a session of the fake cluster writes to. */
export interface FakeSocket {
  deliver(bytes: Uint8Array): void;
  close(code: number): void;
}

/** A refusal, thrown by handlers. */
export class Refused extends Error {
  constructor(
    readonly code: ErrorCode,
    readonly retryAfterMs = 0,
    /** The connection ends behind the answer. */
    readonly closeCode = 0,
  ) {
    super(ErrorCode[code]);
  }
}

export class FakeSession {
  user = "";
  id = "";
  readonly #cluster: FakeCluster;
  /** Sends that were refused for the moment: what comes behind them is refused too. */
  readonly #refused = new Set<string>();
  readonly socket: FakeSocket;

  constructor(cluster: FakeCluster, socket: FakeSocket) {
    this.#cluster = cluster;
    this.socket = socket;
  }

  receive(bytes: Uint8Array): void {
    const frame = ClientFrame.decode(bytes);
    if (frame.body === undefined) return this.socket.close(CloseCode.malformedFrame);
    this.#cluster.requests.push(frame.body);
    const send = frame.body.$case === "send" ? frame.body.value : undefined;
    try {
      if (send !== undefined && this.#refused.has(send.after)) throw new Refused(ErrorCode.ERROR_CODE_UNAVAILABLE);
      const answer = this.#cluster.handle(this, frame.body);
      this.#refused.delete(send?.clientMessageId ?? "");
      if (answer !== undefined) this.push(answer, frame.requestId);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (send !== undefined && error.code >= 400 && error.code < 500) this.#refused.add(send.clientMessageId);
      const value = { code: error.code, message: error.message, field: "", retryAfterMs: error.retryAfterMs };
      this.push({ $case: "error", value }, frame.requestId);
      if (error.closeCode !== 0) this.socket.close(error.closeCode);
    }
  }

  push(body: ServerBody, requestId = 0): void {
    this.socket.deliver(ServerFrame.encode({ requestId, body }).finish());
  }

  closed(): void {
    this.#cluster.sessions.delete(this);
  }
}
