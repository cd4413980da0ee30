// Storage of the platforms that can be reloaded: localStorage and that of a mini-program.
import type { WeChatStorageApi, WebStorage } from "../../src/index.js";

/** Like `localStorage`. `writes` counts; above `bytesMax` it is full. */
export class FakeStorage implements WebStorage {
  readonly entries = new Map<string, string>();
  writes = 0;
  bytesMax = Number.POSITIVE_INFINITY;

  get length(): number {
    return this.entries.size;
  }

  get bytes(): number {
    return [...this.entries].reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  }

  key(index: number): string | null {
    return [...this.entries.keys()][index] ?? null;
  }

  getItem(key: string): string | null {
    return this.entries.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.writes += 1;
    const old = this.entries.get(key);
    this.entries.set(key, value);
    if (this.bytes <= this.bytesMax) return;
    if (old === undefined) this.entries.delete(key);
    else this.entries.set(key, old);
    throw new Error("QuotaExceededError");
  }

  removeItem(key: string): void {
    this.entries.delete(key);
  }

  /** Damages all entries whose key has `part`; returns how many. */
  damage(part: string): number {
    const keys = [...this.entries.keys()].filter((key) => key.includes(part));
    for (const key of keys) this.entries.set(key, `${this.entries.get(key) ?? ""}x`);
    return keys.length;
  }
}

export function fakeWxStorage(storage: FakeStorage): WeChatStorageApi {
  return {
    getStorageSync: (key) => storage.getItem(key) ?? "",
    setStorageSync: (key, value) => storage.setItem(key, value),
    removeStorageSync: (key) => storage.removeItem(key),
    getStorageInfoSync: () => ({ keys: [...storage.entries.keys()] }),
  };
}
