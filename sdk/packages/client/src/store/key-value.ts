// A store on any synchronous key-value storage: localStorage, or that of mini-programs.
import type { Changes, Store } from "../store.js";

/** What a storage must offer. Make one with `webStorage` or `weChatStorage`. */
export interface KeyValueStorage {
  keys(): readonly string[];
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** One entry for each row, so that a change writes no more than itself. */
export class KeyValueStore implements Store {
  readonly #storage: KeyValueStorage;

  constructor(storage: KeyValueStorage) {
    this.#storage = storage;
  }

  keys(prefix: string): string[] {
    return this.#storage.keys().filter((key) => key.startsWith(prefix));
  }

  read(keys: readonly string[]): (string | undefined)[] {
    return keys.map((key) => this.#storage.getItem(key) ?? undefined);
  }

  write(changes: Changes): void {
    // Two passes: whatever breaks this off, a row is gone only when the one that stands for it is there.
    for (const [key, text] of changes) if (text !== undefined) this.#storage.setItem(key, text);
    for (const [key, text] of changes) if (text === undefined) this.#storage.removeItem(key);
  }
}

/** The part of `localStorage` that is used. */
export interface WebStorage {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** For `new KeyValueStore(webStorage(localStorage))`. Where there is IndexedDB, an `IndexedDbStore` has more room. */
export function webStorage(storage: WebStorage): KeyValueStorage {
  return {
    keys: () => Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? ""),
    getItem: (key) => storage.getItem(key),
    setItem: (key, value) => storage.setItem(key, value),
    removeItem: (key) => storage.removeItem(key),
  };
}

/** The part of the global `wx` that is used. */
export interface WeChatStorageApi {
  getStorageSync(key: string): unknown;
  setStorageSync(key: string, value: string): void;
  removeStorageSync(key: string): void;
  getStorageInfoSync(): { readonly keys: readonly string[] };
}

/** For `new KeyValueStore(weChatStorage(wx))`. A mini-program has 10 MB in all for each user: see `cacheBytesMax`. */
export function weChatStorage(api: WeChatStorageApi): KeyValueStorage {
  return {
    keys: () => api.getStorageInfoSync().keys,
    getItem(key) {
      const value = api.getStorageSync(key);
      return typeof value === "string" && value !== "" ? value : null;
    },
    setItem: (key, value) => api.setStorageSync(key, value),
    removeItem: (key) => api.removeStorageSync(key),
  };
}
