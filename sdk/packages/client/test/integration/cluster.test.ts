// The client against a real cluster: three nodes, two gateways.
import { after, before, test } from "node:test";
import { DevCluster } from "../support/dev-cluster.js";
import * as story from "../support/story.js";

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
test("others' conversations and bad tokens are refused, and everybody else goes on", () => story.refusals(cluster));
