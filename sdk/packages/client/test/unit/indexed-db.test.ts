// The store of browsers, on an IndexedDB in memory that does what the standard says: full, closed, and of two tabs.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { forceCloseDatabase, IDBDatabase, IDBFactory, IDBKeyRange, IDBObjectStore } from "fake-indexeddb";
import { IndexedDbStore } from "../../src/index.js";
import { FakeCluster } from "../support/fake-cluster.js";
import { type Fixture, online, texts } from "../support/fixture.js";

type Factory = InstanceType<typeof IDBFactory>;
type Database = InstanceType<typeof IDBDatabase>;

Object.assign(globalThis, { IDBKeyRange });
const { put } = IDBObjectStore.prototype;
const { transaction } = IDBDatabase.prototype;

afterEach(() => {
  IDBObjectStore.prototype.put = put;
  IDBDatabase.prototype.transaction = transaction;
});

/** The database works in tasks of its own. */
async function passes({ clock }: Fixture, ms = 0): Promise<void> {
  for (let round = 0; round < 20; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    await clock.advance(round === 0 ? ms : 0);
  }
}

async function opened(factory: Factory, cluster: FakeCluster): Promise<Fixture> {
  const made = await online({ store: new IndexedDbStore("parlance", factory) }, cluster);
  await passes(made);
  return made;
}

/** Every database in use. */
function databases(): Set<Database> {
  const used = new Set<Database>();
  IDBDatabase.prototype.transaction = function (this: Database, ...args: unknown[]) {
    used.add(this);
    return transaction.apply(this, args);
  };
  return used;
}

test("a restart brings what was missed, and what was unsent goes out", async () => {
  const [factory, cluster] = [new IDBFactory(), new FakeCluster()];
  const first = await opened(factory, cluster);
  cluster.say("bob", "alice", "seen");
  await passes(first);
  first.transport.last.silent = true;
  first.client.send({ to: "bob", text: "mine" }).catch(() => {});
  await passes(first);
  first.transport.last.forget();
  cluster.say("bob", "alice", "missed");
  const second = await opened(factory, cluster);
  assert.deepEqual(texts(second.events), ["missed", "mine"]);
  const timeline = second.client.timeline({ to: "bob" });
  const loaded = timeline.loadOlder();
  await passes(second);
  await loaded;
  assert.deepEqual(texts(timeline.snapshot().events), ["seen", "missed", "mine"]);
  assert.deepEqual(second.errors, []);
  second.client.close();
});

test("a database that is closed from outside is opened again, and nothing is lost", async () => {
  const used = databases();
  const [factory, cluster] = [new IDBFactory(), new FakeCluster()];
  const first = await opened(factory, cluster);
  // As when the user clears the browser's data, or the browser does.
  for (const database of used) forceCloseDatabase(database);
  cluster.say("bob", "alice", "one");
  await passes(first);
  // As some browsers do it: no event, and each transaction fails.
  for (const database of used) database.close();
  for (const text of ["two", "three"]) {
    cluster.say("bob", "alice", text);
    await passes(first);
  }
  assert.deepEqual(texts(first.events), ["one", "two", "three"]);
  assert.ok(first.errors.every(({ code }) => code === "store"));
  first.client.close();
  cluster.say("bob", "alice", "missed");
  const second = await opened(factory, cluster);
  assert.deepEqual(texts(second.events), ["missed"]);
  second.client.close();
});

test("another page can delete the database; this one goes on and writes a new one", async () => {
  const [factory, cluster] = [new IDBFactory(), new FakeCluster()];
  const { client, ...first } = await opened(factory, cluster);
  const deleted = new Promise<void>((resolve, reject) => {
    const request = factory.deleteDatabase("parlance");
    request.onsuccess = () => resolve();
    request.onerror = () => reject(request.error);
  });
  await passes({ client, ...first });
  await deleted;
  cluster.say("bob", "alice", "after");
  await passes({ client, ...first });
  assert.deepEqual(texts(first.events), ["after"]);
  client.close();
  const second = await opened(factory, cluster);
  assert.deepEqual(texts(second.events), []);
  second.client.close();
});

test("a full database keeps positions and unsent messages, and lets events go", async () => {
  const [factory, cluster] = [new IDBFactory(), new FakeCluster()];
  const first = await opened(factory, cluster);
  for (let i = 0; i < 20; i += 1) cluster.say("bob", "alice", `${i} `.padEnd(500, "x"), `b${i}`);
  await passes(first);
  // Rows that are not short find no room any more, as in a database at its quota.
  IDBObjectStore.prototype.put = function (value: unknown, key: unknown) {
    if (String(value).length > 300) this.transaction.abort();
    return put.call(this, value, key);
  };
  for (let i = 20; i < 30; i += 1) {
    cluster.say("bob", "alice", `${i} `.padEnd(500, "x"), `b${i}`);
    await passes(first);
  }
  first.transport.last.silent = true;
  first.client.send({ to: "bob", text: "mine" }).catch(() => {});
  await passes(first);
  first.transport.last.forget();
  assert.equal(first.events.length, 30);
  assert.ok(first.errors.length > 0 && first.errors.every(({ code }) => code === "store"));
  const second = await opened(factory, cluster);
  assert.deepEqual(texts(second.events), ["mine"]);
  second.client.close();
});

test("two tabs on one database, both offline: all that was unsent goes out after a reload", async () => {
  const [factory, cluster] = [new IDBFactory(), new FakeCluster()];
  const tabs = [await opened(factory, cluster), await opened(factory, cluster)];
  for (const [index, tab] of tabs.entries()) {
    tab.transport.last.silent = true;
    tab.client.send({ to: "bob", text: `tab ${index}` }).catch(() => {});
    await passes(tab);
  }
  for (const tab of tabs) tab.transport.last.forget();
  const next = await opened(factory, cluster);
  const said = cluster.log("alice", "bob").map((event) => event.body?.value.content?.kind?.value);
  assert.deepEqual(said.sort(), ["tab 0", "tab 1"]);
  next.client.close();
});
