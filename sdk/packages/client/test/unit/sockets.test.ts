// The stories of the integration tests over real sockets, against the fake cluster.
import { after, before, test } from "node:test";
import { FakeCluster } from "../support/fake-cluster.js";
import * as story from "../support/story.js";
import { WsGateway } from "../support/ws-gateway.js";

const gateways: WsGateway[] = [];
const setting: story.Setting = {
  get gateways() {
    return gateways.map((gateway) => gateway.url);
  },
  token: (user) => user,
};

before(async () => {
  const cluster = new FakeCluster();
  gateways.push(await WsGateway.start(cluster), await WsGateway.start(cluster));
});
after(() => Promise.all(gateways.map((gateway) => gateway.stop())));

test("chat both ways", () => story.chatBothWays(setting));
test("history", () => story.historyBothDirections(setting));
test("unread and read", () => story.unreadAndMarkRead(setting));
test("reconnect", () => story.reconnectAfterCut(setting));
test("same id again", () => story.sameIdAgain(setting));
test("missed while offline", () => story.missedWhileOffline(setting));
test("slow phone", () => story.slowPhone(setting, 10));
test("refusals", () => story.refusals(setting));
