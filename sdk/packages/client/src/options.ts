// What an app may set, with defaults.
import type { BackoffOptions } from "./backoff.js";
import { type Clock, systemClock } from "./clock.js";
import { type Locks, platformLocks } from "./locks.js";
import { platformRandom, type RandomSource } from "./random.js";
import type { Store, StoreOwner } from "./store.js";
import { MemoryStore } from "./store/memory.js";
import { webSocketTransport } from "./transport/websocket.js";
import type { Transport } from "./transport.js";

/** Why a token is wanted. */
export type TokenReason =
  /** There is none yet. */
  | "first"
  /** The last one is too old. */
  | "expired"
  /** The cluster refused the last one for another reason. */
  | "refused";

/** A token, and what its format does not carry itself. A JWT needs nothing beside it. */
export interface Credentials {
  readonly token: string;
  /** The app's id or an alias. */
  readonly appId?: string;
  readonly userId?: string;
  /** By name, as in `{ nonce, timestamp, role }`. */
  readonly extra?: Readonly<Record<string, string>>;
}

/** What an app gives for a log-in: a token that says all, or a token with the rest. */
export type GivenToken = string | Credentials;

/** Options of a client. */
export interface ClientOptions {
  /** WebSocket addresses, as in `wss://chat.example.com/ws`; after a failure the next one is tried. */
  readonly gateways: readonly string[];
  /** The address to begin with. Default: `random`, which spreads clients over gateways. */
  readonly firstGateway?: "random" | "first";
  /** Asked for a token when one is needed: before the first connection and after a refusal, not at each reconnect. */
  readonly getToken: (reason: TokenReason) => Promise<GivenToken> | GivenToken;
  /** Default: the platform's WebSocket. */
  readonly transport?: Transport;
  /** Default: a `MemoryStore`. */
  readonly store?: Store;
  /**
   * How clients that share a store know which of them live, so that what is unsent is sent by one of them. Default:
   * `navigator.locks` where there is one. Without it several may send the same message, which is stored once.
   */
  readonly locks?: Locks;
  /** Free text for device lists, 64 bytes at most. */
  readonly platform?: string;
  readonly deviceId?: string;
  /** Time for `getToken`, for the socket to open, and again for the log-in. Default: 10,000. */
  readonly connectTimeoutMs?: number;
  /** Time for history, list and read requests, over reconnects. Default: 20,000. */
  readonly requestTimeoutMs?: number;
  /** Time for a send to be acknowledged, over reconnects; for one of an earlier run from the log-in on. Default: 60,000. */
  readonly sendTimeoutMs?: number;
  /** Longest time between two pings; the gateway's idle limit can make it shorter. Default: 25,000. */
  readonly pingIntervalMs?: number;
  /**
   * A connection on which nothing comes in for so long after a ping is given up. Four times as long when a large answer
   * is awaited and the transport cannot tell if it is coming in. Default: 10,000.
   */
  readonly pingTimeoutMs?: number;
  readonly backoff?: Partial<BackoffOptions>;
  /**
   * Who will log in, where that is known before: what the store has of this user is there from `connect` on, also
   * without a network.
   */
  readonly owner?: StoreOwner;
  /**
   * About the size of all events that are kept in the store; the oldest go. A quarter more is for conversations as last
   * shown, and one for unsent messages. In bytes. Default: 4 MiB.
   */
  readonly cacheBytesMax?: number;
  /** Sends of one conversation that may be on their way at the same time. Default: 16. */
  readonly sendsAheadMax?: number;
  /** Sends waiting for their acknowledgement. Default: 1,000. */
  readonly outboxMax?: number;
  /** Other requests waiting for their turn. Default: 256. */
  readonly requestsWaitingMax?: number;
  /** Events of one conversation held back until a gap before them is filled. Default: 256. */
  readonly heldEventsMax?: number;
  /** Memory for such events of all conversations, about, in bytes. What finds no room is fetched again. Default: 4 MiB. */
  readonly heldBytesMax?: number;
  readonly clock?: Clock;
  readonly random?: RandomSource;
}

/** Options with every default filled in. */
export interface Settings extends Required<Omit<ClientOptions, "backoff" | "owner" | "locks">> {
  readonly owner: StoreOwner | undefined;
  readonly locks: Locks | undefined;
  readonly backoff: BackoffOptions;
}

/** Fills in defaults; throws a TypeError that names what is wrong. */
export function settingsFrom(options: ClientOptions): Settings {
  if (options.gateways.length === 0) throw new TypeError("gateways must have at least one address");
  for (const url of options.gateways) {
    if (!/^wss?:\/\//.test(url)) throw new TypeError(`gateway address ${url} must begin with ws:// or wss://`);
  }
  return {
    gateways: [...options.gateways],
    firstGateway: options.firstGateway ?? "random",
    getToken: options.getToken,
    transport: options.transport ?? webSocketTransport(),
    store: options.store ?? new MemoryStore(),
    platform: options.platform ?? "",
    deviceId: options.deviceId ?? "",
    connectTimeoutMs: positive("connectTimeoutMs", options.connectTimeoutMs, 10_000),
    requestTimeoutMs: positive("requestTimeoutMs", options.requestTimeoutMs, 20_000),
    sendTimeoutMs: positive("sendTimeoutMs", options.sendTimeoutMs, 60_000),
    pingIntervalMs: positive("pingIntervalMs", options.pingIntervalMs, 25_000),
    pingTimeoutMs: positive("pingTimeoutMs", options.pingTimeoutMs, 10_000),
    backoff: {
      baseMs: positive("backoff.baseMs", options.backoff?.baseMs, 500),
      maxMs: positive("backoff.maxMs", options.backoff?.maxMs, 20_000),
    },
    owner: options.owner,
    locks: options.locks ?? platformLocks(),
    cacheBytesMax: positive("cacheBytesMax", options.cacheBytesMax, 4 * 1024 * 1024),
    sendsAheadMax: positive("sendsAheadMax", options.sendsAheadMax, 16),
    outboxMax: positive("outboxMax", options.outboxMax, 1_000),
    requestsWaitingMax: positive("requestsWaitingMax", options.requestsWaitingMax, 256),
    heldEventsMax: positive("heldEventsMax", options.heldEventsMax, 256),
    heldBytesMax: positive("heldBytesMax", options.heldBytesMax, 4 * 1024 * 1024),
    clock: options.clock ?? systemClock,
    random: options.random ?? platformRandom,
  };
}

function positive(name: string, value: number | undefined, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (!(value > 0)) throw new TypeError(`${name} must be above 0, not ${value}`);
  return value;
}
