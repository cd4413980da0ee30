// The client against a real cluster: three nodes, two gateways.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ParlanceClient } from "../../src/index.js";
import { nodeTransport } from "../../src/node.js";
import { DevCluster } from "../support/dev-cluster.js";
import * as story from "../support/story.js";
import { until } from "../support/wait.js";

let cluster: DevCluster;
before(async () => {
  cluster = await DevCluster.start();
});
after(() => cluster.stop());

test("two people chat both ways through two gateways", () => story.chatBothWays(cluster));
test("history reads in both directions, page by page", () => story.historyBothDirections(cluster));
test("unread counts and read cursors agree on both sides", () => story.unreadAndMarkRead(cluster));
test("a cut connection comes back and misses nothing", () => story.reconnectAfterCut(cluster));
test("the same id again is a duplicate through any gateway, and with another payload a conflict", () =>
  story.sameIdAgain(cluster));
test("what was missed offline comes at the next log-in with the same store", () => story.missedWhileOffline(cluster));
test("on a line of 20 KiB/s what was missed comes, and nobody is cut off", () => story.slowPhone(cluster, 150));
test("a token that is about to end is renewed, and the connection stays", async () => {
  const reasons: string[] = [];
  const states: string[] = [];
  const client = new ParlanceClient({
    gateways: cluster.gateways,
    transport: nodeTransport(),
    getToken: (reason) => {
      reasons.push(reason);
      // Gateways say so 30 s before.
      return cluster.token("renewing", reasons.length === 1 ? "32s" : "24h");
    },
  });
  client.on("state", ({ state }) => states.push(state));
  try {
    await client.connect({ timeoutMs: 20_000 });
    await until(
      () => reasons.length === 2,
      () => reasons,
    );
    // Answered behind the renewal.
    await client.listConversations();
    assert.deepEqual(
      [reasons, states],
      [
        ["first", "expired"],
        ["connecting", "online"],
      ],
    );
  } finally {
    client.close();
  }
});
test("others' conversations and bad tokens are refused, and everybody else goes on", () => story.refusals(cluster));
