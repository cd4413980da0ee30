// How far each conversation was handed out. Each position is a row of its own, named by it: a new one is written before
// the last one is deleted, and the highest counts, so that no client takes back what another one on this store wrote.
import { idOf, idPart } from "./text.js";

export class Places {
  /** Conversation → seq. */
  readonly #at = new Map<string, number>();

  get all(): ReadonlyMap<string, number> {
    return this.#at;
  }

  /**
   * Takes in a row of an earlier run. Returns the key of the one that it makes needless, which may be its own; false if
   * it is damaged. The key says it all: a row that is gone was there a moment ago, and another client is further.
   */
  restore(key: string, value: unknown, gone: boolean): string | undefined | false {
    const [, part = "", digits = ""] = key.split("/");
    const seq = Number(digits);
    const conversationId = idOf(part);
    if (conversationId === undefined || digits === "" || !Number.isSafeInteger(seq)) return false;
    if (!gone && value !== seq) return false;
    const known = this.#at.get(conversationId);
    if (known !== undefined && known >= seq) return key;
    this.#at.set(conversationId, seq);
    return known === undefined ? undefined : keyOf(conversationId, known);
  }

  /** Key of the row for a new position, and of the one before; undefined if it is there already. */
  move(conversationId: string, seq: number): { readonly key: string; readonly before: string | undefined } | undefined {
    const known = this.#at.get(conversationId);
    if (known === seq) return undefined;
    this.#at.set(conversationId, seq);
    return { key: keyOf(conversationId, seq), before: known === undefined ? undefined : keyOf(conversationId, known) };
  }

  /** Key of the row that is no longer true. */
  forget(conversationId: string): string | undefined {
    const known = this.#at.get(conversationId);
    this.#at.delete(conversationId);
    return known === undefined ? undefined : keyOf(conversationId, known);
  }
}

function keyOf(conversationId: string, seq: number): string {
  return `p/${idPart(conversationId)}/${seq}`;
}
