// What an earlier run left unsent, on a fake cluster and in its store.
import type { MemoryStore } from "../../src/index.js";
import type { FakeCluster } from "./fake-cluster.js";
import { online } from "./fixture.js";

/** The owner of these runs. */
export const OWNER = { appId: "demo", userId: "alice" };

/** What bob and alice have said to each other. */
export function stored(cluster: FakeCluster): unknown[] {
  return cluster.log("alice", "bob").map((event) => event.body?.value.content?.kind?.value);
}

/** Messages that the store has as unsent. */
export function left(store: MemoryStore): number {
  return store.keys("").filter((key) => key.includes("/o/")).length;
}

/** A run that ends without a word while it sends. */
export async function dies(store: MemoryStore, cluster: FakeCluster, text: string): Promise<void> {
  const run = await online({ store }, cluster);
  run.transport.last.silent = true;
  run.client.send({ to: "bob", text }).catch(() => {});
  await run.clock.advance(0);
  run.transport.last.forget();
}
