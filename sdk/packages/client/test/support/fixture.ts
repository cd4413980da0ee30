// One client on a fake cluster with fake time, and a record of what it told.
import {
  type ClientOptions,
  type ConversationEvent,
  ParlanceClient,
  type ParlanceError,
  type StateChange,
} from "../../src/index.js";
import { FakeCluster } from "./fake-cluster.js";
import { FakeClock } from "./fake-time.js";
import { FakeTransport } from "./fake-transport.js";

export const GATEWAYS = ["ws://one/ws", "ws://two/ws"] as const;

export interface Fixture {
  readonly cluster: FakeCluster;
  readonly clock: FakeClock;
  readonly transport: FakeTransport;
  readonly client: ParlanceClient;
  readonly events: ConversationEvent[];
  readonly states: StateChange[];
  readonly errors: ParlanceError[];
}

/** Texts of the messages, in the order in which they were handed out. */
export function texts(events: readonly ConversationEvent[]): string[] {
  return events.map((event) =>
    event.type === "message" && event.content.type === "text" ? event.content.text : event.type,
  );
}

let fixtures = 0;

/** A client of `alice`, not connected yet. Randomness gives the middle of every range, and ids of its own. */
export function fixture(options: Partial<ClientOptions> = {}, cluster = new FakeCluster()): Fixture {
  const clock = new FakeClock();
  const transport = new FakeTransport(cluster);
  fixtures += 1;
  const own = fixtures;
  let count = 0;
  const random = {
    bytes: (length: number) => {
      count += 1;
      if (length === 4) return Uint8Array.of(0, 0, 0, 128);
      const bytes = new Uint8Array(length);
      new DataView(bytes.buffer).setUint32(0, own);
      new DataView(bytes.buffer).setUint32(4, count);
      return bytes;
    },
  };
  const client = new ParlanceClient({
    gateways: GATEWAYS,
    getToken: () => "alice",
    transport,
    clock,
    random,
    ...options,
  });
  const events: ConversationEvent[] = [];
  const states: StateChange[] = [];
  const errors: ParlanceError[] = [];
  client.on("event", (event) => events.push(event));
  client.on("state", (state) => states.push(state));
  client.on("error", (error) => errors.push(error));
  return { cluster, clock, transport, client, events, states, errors };
}

/** As `fixture`, logged in and level with the cluster. */
export async function online(options: Partial<ClientOptions> = {}, cluster = new FakeCluster()): Promise<Fixture> {
  const made = fixture(options, cluster);
  const connected = made.client.connect();
  await made.clock.advance(0);
  await connected;
  return made;
}
