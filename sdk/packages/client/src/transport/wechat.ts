// Transport on the socket of WeChat mini-programs.
import { CloseCode } from "../codes.js";
import type { SocketEvents, Transport } from "../transport.js";

/** The part of a mini-program's SocketTask that is used. */
export interface WeChatSocketTask {
  onOpen(listener: () => void): void;
  onMessage(listener: (message: { data: string | ArrayBuffer }) => void): void;
  onClose(listener: (close: { code?: number; reason?: string }) => void): void;
  onError(listener: (error: { errMsg?: string }) => void): void;
  send(options: { data: ArrayBuffer; fail?: (error: { errMsg?: string }) => void }): void;
  close(options: { code?: number; reason?: string }): void;
}

/** The part of the global `wx` that is used. */
export interface WeChat {
  connectSocket(options: {
    url: string;
    protocols: string[];
    tcpNoDelay?: boolean;
    fail?: (error: { errMsg?: string }) => void;
  }): WeChatSocketTask;
}

declare const wx: WeChat | undefined;

/** Uses `api`, or the global `wx`. */
export function weChatTransport(api?: WeChat): Transport {
  const chosen = api ?? (typeof wx === "undefined" ? undefined : wx);
  if (chosen === undefined) throw new TypeError("there is no global wx: pass the mini-program's API");
  return {
    connect(url, protocol, events) {
      const end = once(events);
      const task = chosen.connectSocket({
        url,
        protocols: [protocol],
        tcpNoDelay: true,
        fail: (error) => end(CloseCode.abnormal, error.errMsg ?? ""),
      });
      task.onOpen(() => events.opened());
      task.onMessage(({ data }) => {
        // A text message is none of ours: an empty frame makes the reader refuse it.
        events.received(typeof data === "string" ? new Uint8Array(0) : new Uint8Array(data));
      });
      task.onClose(({ code, reason }) => end(code ?? CloseCode.abnormal, reason ?? ""));
      // Some base libraries report a failed connection here and nowhere else.
      task.onError(({ errMsg }) => end(CloseCode.abnormal, errMsg ?? ""));
      return {
        send: (frame) =>
          task.send({ data: exactBuffer(frame), fail: (error) => end(CloseCode.abnormal, error.errMsg ?? "") }),
        close: (code, reason) => task.close({ code, reason }),
      };
    },
  };
}

function once(events: SocketEvents): (code: number, reason: string) => void {
  let ended = false;
  return (code, reason) => {
    if (ended) return;
    ended = true;
    events.closed(code, reason);
  };
}

/** Mini-programs send whole buffers only. */
function exactBuffer(frame: Uint8Array): ArrayBuffer {
  return frame.slice().buffer as ArrayBuffer;
}
