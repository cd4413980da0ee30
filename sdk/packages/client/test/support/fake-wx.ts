// The socket part of a mini-program's `wx`, onto a fake cluster.
import type { WeChat, WeChatSocketTask } from "../../src/index.js";
import type { FakeCluster } from "./fake-cluster.js";

export interface FakeWx extends WeChat {
  readonly protocols: string[][];
  /** Ends the newest socket. */
  cut(code?: number): void;
  /** The next connections fail, as told by `onError` alone. */
  broken: boolean;
}

export function fakeWx(cluster: FakeCluster): FakeWx {
  const protocols: string[][] = [];
  let cutLast: (code?: number) => void = () => {};
  const wx: FakeWx = {
    protocols,
    broken: false,
    cut: (code) => cutLast(code),
    connectSocket(options): WeChatSocketTask {
      protocols.push(options.protocols);
      const on: { [name: string]: (value: never) => void } = {};
      const fire = (name: string, value: object): void => queueMicrotask(() => on[name]?.(value as never));
      const session = cluster.accept({
        deliver: (bytes) => fire("message", { data: bytes.slice().buffer }),
        close: (code) => cutLast(code),
      });
      cutLast = (code) => {
        session.closed();
        fire("close", code === undefined ? {} : { code, reason: "" });
      };
      queueMicrotask(() => (wx.broken ? fire("error", { errMsg: "fail" }) : fire("open", {})));
      return {
        onOpen: (listener) => {
          on.open = listener;
        },
        onMessage: (listener) => {
          on.message = listener;
        },
        onClose: (listener) => {
          on.close = listener;
        },
        onError: (listener) => {
          on.error = listener;
        },
        send: ({ data }) => session.receive(new Uint8Array(data)),
        close: () => session.closed(),
      };
    },
  };
  return wx;
}
