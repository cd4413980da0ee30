// What a close leaves unsent is for the next connect of the same client, or for another one, whenever the close comes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Locks, MemoryStore, type Store } from "../../src/index.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { FakeLocks } from "../support/fake-locks.js";
import { fixture, online } from "../support/fixture.js";
import { dies, left, OWNER, stored } from "../support/unsent.js";

/** As `inner`; the first look for rows that begin so waits for `open`. */
function gated(inner: MemoryStore, start: string): { store: Store; asked(): boolean; open(): void } {
  let [open, asked] = [(): void => {}, false];
  const store: Store = {
    async keys(prefix) {
      const keys = inner.keys(prefix);
      if (!asked && prefix.endsWith(start)) {
        asked = true;
        await new Promise<void>((resolve) => {
          open = resolve;
        });
      }
      return keys;
    },
    read: (keys) => inner.read(keys),
    write: (changes) => inner.write(changes),
  };
  return { store, asked: () => asked, open: () => open() };
}

test("a close while what is left is being looked for takes nothing away: the next connect sends it", async () => {
  const moments = ["/alice/", "/o/"].flatMap((start) => [true, false].map((answered) => ({ start, answered })));
  for (const { start, answered } of moments) {
    const [inner, cluster] = [new MemoryStore(), new FakeCluster()];
    await dies(inner, cluster, "hi");
    const { store, asked, open } = gated(inner, start);
    const { client, clock } = await online({ store, owner: OWNER }, cluster);
    assert.ok(asked());
    client.close();
    if (answered) {
      open();
      await clock.advance(0);
    }
    client.connect().catch(() => {});
    await clock.advance(0);
    open();
    await clock.advance(0);
    assert.deepEqual(
      [stored(cluster), left(inner)],
      [["hi"], 0],
      `while ${start} is read, answered before the connect: ${answered}`,
    );
    client.close();
  }
});

test("a lock that is granted after the close is let go: another client sends what is left", async () => {
  const [store, cluster, all] = [new MemoryStore(), new FakeCluster(), new FakeLocks()];
  await dies(store, cluster, "hi");
  const { locks } = all.page();
  const waiting: (() => void)[] = [];
  const slow: Locks = {
    request: async (name, options, act) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return locks.request(name, options, act);
    },
  };
  const { client, clock } = await online({ store, locks: slow }, cluster);
  assert.equal(waiting.length, 1);
  client.close();
  for (const grant of waiting) grant();
  await clock.advance(0);
  const next = await online({ store, locks: all.page().locks }, cluster);
  await next.clock.advance(0);
  assert.deepEqual([stored(cluster), left(store)], [["hi"], 0]);
  next.client.close();
});

test("what the cluster closed over before the store was open is sent by the next connect", async () => {
  const [store, cluster] = [new MemoryStore(), new FakeCluster()];
  const { client, clock } = fixture({ store }, cluster);
  const { protocols } = cluster;
  cluster.protocols = { min: 9, max: 9 };
  client.send({ to: "bob", text: "hi" }).catch(() => {});
  client.connect().catch(() => {});
  await clock.advance(0);
  assert.equal(client.state, "closed");
  cluster.protocols = protocols;
  client.connect().catch(() => {});
  await clock.advance(1_000);
  assert.deepEqual([stored(cluster), left(store)], [["hi"], 0]);
  client.close();
});
