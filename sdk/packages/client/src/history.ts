// Reads a conversation's log over as many answers as it takes, and the list page by page: an answer of a gateway ends
// early where it would grow large.
import type { CancelSignal } from "./cancel.js";
import { conversationFromWire, directionToWire, historyFromWire, readTarget } from "./codec.js";
import type { ConversationEvent, ConversationPage, HistoryPage, Target } from "./model.js";
import type { CallOptions, Requests } from "./requests.js";

/** Which part of a conversation's log to read. */
export type HistoryOptions = Target & {
  /** The first seq wanted, inclusive. Default: the newest (backward) or the oldest (forward). */
  readonly startSeq?: number;
  /** Events wanted. Default: 50. */
  readonly limit?: number;
  /** Default: backward. */
  readonly direction?: "backward" | "forward";
  readonly signal?: CancelSignal;
};

const LIMIT_DEFAULT = 50;

/** One answer. `maxBytes` is asked when the request goes out, also when it goes again. */
export async function readPiece(
  requests: Requests,
  options: HistoryOptions,
  maxBytes: () => number,
  call: CallOptions = {},
): Promise<HistoryPage> {
  const value = {
    target: readTarget(options),
    startSeq: options.startSeq ?? 0,
    limit: options.limit ?? LIMIT_DEFAULT,
    direction: directionToWire(options.direction ?? "backward"),
  };
  const body = () => ({ $case: "history", value: { ...value, maxBytes: maxBytes() } }) as const;
  return historyFromWire(await requests.call("history", body, { signal: options.signal, ...call }));
}

/** As many events as were asked for, joined in ascending `seq`. */
export async function readHistory(
  requests: Requests,
  options: HistoryOptions,
  maxBytes: () => number,
): Promise<HistoryPage> {
  const limit = options.limit ?? LIMIT_DEFAULT;
  const forward = options.direction === "forward";
  let events: readonly ConversationEvent[] = [];
  let { startSeq } = options;
  for (;;) {
    const rest = { limit: limit - events.length, ...(startSeq === undefined ? {} : { startSeq }) };
    const piece = await readPiece(requests, { ...options, ...rest }, maxBytes);
    events = forward ? [...events, ...piece.events] : [...piece.events, ...events];
    const end = piece.events[forward ? piece.events.length - 1 : 0];
    const more = piece.more && end !== undefined;
    if (!more || events.length >= limit) return { ...piece, events };
    startSeq = forward ? end.seq + 1 : end.seq - 1;
  }
}

/** A page of a list, and where the next list may begin. */
export interface ListedPage extends ConversationPage {
  readonly cursor: string;
  /** Only what changed since the cursor given is listed. */
  readonly changesOnly: boolean;
}

/** Which part of a list, or which conversations. */
export interface ListOptions {
  readonly after?: string;
  readonly limit?: number;
  /** A cursor is wanted; if this is one, only what changed since. */
  readonly since?: string;
  readonly conversationIds?: readonly string[];
}

/** A page of the user's conversations; `maxBytes` as above. */
export async function listPage(
  requests: Requests,
  options: ListOptions,
  maxBytes: () => number,
  call: CallOptions = {},
): Promise<ListedPage> {
  const { after = "", limit = 0, since, conversationIds = [] } = options;
  const value = { after, limit, since, conversationIds: [...conversationIds] };
  const body = () => ({ $case: "conversations", value: { ...value, maxBytes: maxBytes() } }) as const;
  const page = await requests.call("conversations", body, call);
  const { nextAfter, cursor, changesOnly } = page;
  return { conversations: page.conversations.map(conversationFromWire), nextAfter, cursor, changesOnly };
}
