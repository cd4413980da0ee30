// A store on any synchronous key-value storage: localStorage, or wx with its two calls wrapped.
import type { Positions, Store, StoreOwner } from "../store.js";

/** What `localStorage` offers. For mini-programs wrap `wx.getStorageSync` and `wx.setStorageSync`. */
export interface KeyValueStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** One entry per user, as JSON. Meant for one client per user and storage. */
export class KeyValueStore implements Store {
  readonly #storage: KeyValueStorage;
  readonly #prefix: string;

  constructor(storage: KeyValueStorage, prefix = "parlance") {
    this.#storage = storage;
    this.#prefix = prefix;
  }

  load(owner: StoreOwner): Positions | undefined {
    const text = this.#storage.getItem(this.#key(owner));
    return text === null ? undefined : parse(text);
  }

  save(owner: StoreOwner, changed: Positions): void {
    const merged = new Map(this.load(owner));
    for (const [conversationId, seq] of changed) merged.set(conversationId, seq);
    this.#storage.setItem(this.#key(owner), JSON.stringify([...merged]));
  }

  #key(owner: StoreOwner): string {
    return `${this.#prefix}:${JSON.stringify([owner.appId, owner.userId])}`;
  }
}

/** What was stored, or nothing when somebody else wrote there. */
function parse(text: string): Positions | undefined {
  try {
    const entries: unknown = JSON.parse(text);
    if (!Array.isArray(entries)) return undefined;
    const positions = new Map<string, number>();
    for (const entry of entries as unknown[]) {
      if (!Array.isArray(entry)) return undefined;
      const [conversationId, seq] = entry as unknown[];
      if (typeof conversationId !== "string" || typeof seq !== "number" || !Number.isSafeInteger(seq)) return undefined;
      positions.set(conversationId, seq);
    }
    return positions;
  } catch {
    return undefined;
  }
}
