// The page as a real cluster serves it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { DevCluster } from "../../../client/test/support/dev-cluster.js";
import { chat, launch } from "./story.js";

const DIST = fileURLToPath(new URL("../../dist", import.meta.url));

test("two windows chat through a real cluster with the printed log-ins", async (t) => {
  const cluster = await DevCluster.start(DIST);
  const browser = await launch();
  try {
    const address = (user: string): string => {
      const logIn = cluster.logIns.find((other) => other.user === user);
      assert.ok(logIn, `a log-in of ${user} was printed`);
      return logIn.url;
    };
    t.diagnostic(`screenshots in ${await chat(browser, { alice: address("alice"), bob: address("bob") })}`);
  } finally {
    await browser.close();
    await cluster.stop();
  }
});
