// Reads the rows of an earlier run, and what they say all together: how far one row counts depends on the others.
import type { Conversation } from "../model.js";
import type { Store } from "../store.js";
import type { Faces } from "./faces.js";
import type { Places } from "./places.js";
import { seal, unseal } from "./text.js";
import { toConversation } from "./values.js";

/** What was left by an earlier run. */
export interface Remembered {
  /** Conversation id → the last seq that was handed to the app. */
  readonly positions: ReadonlyMap<string, number>;
  /** This user's first log-in here was complete: what is not in `positions` is new. */
  readonly based: boolean;
  /** Where the next list may begin; empty for a whole one. */
  readonly cursor: string;
  readonly conversations: readonly Conversation[];
}

export type Row = readonly [key: string, row: string | undefined];

/** All rows that are read at the beginning, and the keys of others. */
export interface Rows {
  readonly rows: readonly Row[];
  readonly events: readonly string[];
  readonly letters: readonly string[];
}

/** What rows say, and which are not to stay. */
export interface Read {
  readonly remembered: Remembered;
  /** Keys of rows that say nothing. */
  readonly damaged: readonly string[];
  /** Keys of rows that are to go. */
  readonly needless: readonly string[];
}

export const FIRST = "m/first";
export const BASED = "m/based";
export const CURSOR = "m/cursor";

/** The cursor's row, with a sum over the rows of conversations that it speaks of. */
export function sealCursor(cursor: string, sum: number): string {
  return seal([cursor, sum]);
}

/** Keys without the prefix. */
export async function readRows(store: Store, prefix: string): Promise<Rows> {
  // First: another client may write meanwhile, and a cursor must not be newer than the rows that it speaks of.
  const [cursor] = await store.read([prefix + CURSOR]);
  const keys = (await store.keys(prefix)).map((key) => key.slice(prefix.length)).sort();
  const wanted = keys.filter((key) => /^[mpc]\//.test(key) && key !== CURSOR);
  const read = await store.read(wanted.map((key) => prefix + key));
  const rows = wanted.map((key, index): Row => [key, read[index]]);
  return {
    rows: cursor === undefined ? rows : [...rows, [CURSOR, cursor]],
    events: keys.filter((key) => key.startsWith("e/")),
    letters: keys.filter((key) => key.startsWith("o/")),
  };
}

/** Takes in rows: an undefined one was there a moment ago. `others`: there are rows that are not among these. */
export function remember(
  rows: readonly Row[],
  into: { readonly places: Places; readonly faces: Faces },
  others: boolean,
): Read {
  const { places, faces } = into;
  const [conversations, damaged, needless]: [Conversation[], string[], string[]] = [[], [], []];
  let [first, based, cursor, sum] = [false, false, "", 0];
  for (const [key, row] of rows) {
    const value = unseal(row ?? "");
    let sound = row === undefined || value !== undefined;
    if (key.startsWith("p/")) {
      const replaced = places.restore(key, value, row === undefined);
      sound = replaced !== false;
      if (typeof replaced === "string") needless.push(replaced);
    } else if (key.startsWith("c/") && row !== undefined) {
      const conversation = toConversation(value);
      sound = conversation !== undefined;
      if (conversation !== undefined) {
        conversations.push(conversation);
        needless.push(...faces.add(key, conversation.lastEvent?.timeMs ?? 0, row));
      }
    } else if (key === CURSOR && Array.isArray(value)) [cursor, sum] = value as [string, number];
    based ||= key === BASED;
    first ||= key === FIRST && sound;
    if (!sound) damaged.push(key);
  }
  const isWhole = damaged.length === 0 && sum === faces.sum && isLevel(places.all, conversations);
  if (cursor !== "" && !isWhole) {
    // What a row said that is not there, or was written late, only the whole list can tell.
    cursor = "";
    needless.push(CURSOR);
  }
  // Rows without a mark, or with a damaged one: the user was here. It is safer to hand out too much.
  based ||= (rows.length > 0 || others) && !first;
  return { remembered: { positions: new Map(places.all), based, cursor, conversations }, damaged, needless };
}

/** Whether every conversation is there as it was when its last event was handed out. */
function isLevel(positions: ReadonlyMap<string, number>, conversations: readonly Conversation[]): boolean {
  const heads = new Map(conversations.map(({ conversationId, headSeq }) => [conversationId, headSeq]));
  const isThere = ([conversationId, seq]: [string, number]): boolean => (heads.get(conversationId) ?? 0) >= seq;
  return heads.size === positions.size && [...positions].every(isThere);
}
