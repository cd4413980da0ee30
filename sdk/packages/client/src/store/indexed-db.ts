// A store on the IndexedDB of browsers.
import type { Changes, Store } from "../store.js";

interface Request<T> {
  readonly result: T;
  readonly error: unknown;
  onsuccess: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
}

interface OpenRequest extends Request<Database> {
  onupgradeneeded: ((event: never) => void) | null;
}

interface Rows {
  get(key: string): Request<unknown>;
  getAllKeys(range: unknown): Request<readonly unknown[]>;
  put(value: string, key: string): unknown;
  delete(key: string): unknown;
}

interface Transaction {
  readonly error: unknown;
  oncomplete: ((event: never) => void) | null;
  onabort: ((event: never) => void) | null;
  objectStore(name: string): Rows;
}

interface Database {
  onversionchange: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  createObjectStore(name: string): unknown;
  transaction(name: string, mode: "readonly" | "readwrite"): Transaction;
  close(): void;
}

/** The part of `indexedDB` that is used. */
export interface IndexedDbFactory {
  open(name: string, version: number): unknown;
}

declare const indexedDB: IndexedDbFactory | undefined;
declare const IDBKeyRange: { bound(lower: string, upper: string): unknown };

const ROWS = "rows";
const VERSION = 1;

/** One database, of which each row is an entry. */
export class IndexedDbStore implements Store {
  readonly #name: string;
  readonly #factory: IndexedDbFactory;
  #opened: Promise<Database> | undefined;

  /** `name` is that of the database. */
  constructor(name = "parlance", factory?: IndexedDbFactory) {
    const chosen = factory ?? (typeof indexedDB === "undefined" ? undefined : indexedDB);
    if (chosen === undefined) throw new TypeError("this platform has no IndexedDB");
    this.#name = name;
    this.#factory = chosen;
  }

  keys(prefix: string): Promise<string[]> {
    return this.#on("readonly", async (rows) => {
      const keys = await result(rows.getAllKeys(IDBKeyRange.bound(prefix, `${prefix}\uffff`)));
      return keys.map(String);
    });
  }

  read(keys: readonly string[]): Promise<(string | undefined)[]> {
    if (keys.length === 0) return Promise.resolve([]);
    return this.#on("readonly", async (rows) => {
      const values = await Promise.all(keys.map((key) => result(rows.get(key))));
      return values.map((value) => (typeof value === "string" ? value : undefined));
    });
  }

  write(changes: Changes): Promise<void> {
    return this.#on("readwrite", (rows, transaction) => {
      for (const [key, text] of changes) {
        if (text === undefined) rows.delete(key);
        else rows.put(text, key);
      }
      return new Promise((resolve, reject) => {
        transaction.oncomplete = () => resolve();
        transaction.onabort = () => reject(transaction.error ?? new Error("the transaction was aborted"));
      });
    });
  }

  /** After a failure the next one opens it anew: some browsers lose a connection without a word. */
  async #on<T>(mode: "readonly" | "readwrite", act: (rows: Rows, transaction: Transaction) => Promise<T>): Promise<T> {
    const opened = this.#open();
    try {
      const transaction = (await opened).transaction(ROWS, mode);
      return await act(transaction.objectStore(ROWS), transaction);
    } catch (cause) {
      if (this.#opened === opened) {
        this.#opened = undefined;
        opened.then(
          (database) => database.close(),
          () => {},
        );
      }
      throw cause;
    }
  }

  /** Opens it once, and again after it was closed from outside. */
  #open(): Promise<Database> {
    this.#opened ??= this.#openNow(() => {
      this.#opened = undefined;
    });
    return this.#opened;
  }

  async #openNow(forget: () => void): Promise<Database> {
    const request = this.#factory.open(this.#name, VERSION) as OpenRequest;
    request.onupgradeneeded = () => request.result.createObjectStore(ROWS);
    const database = await result(request);
    database.onclose = forget;
    // Another page wants to delete it or to make it newer.
    database.onversionchange = () => {
      forget();
      database.close();
    };
    return database;
  }
}

function result<T>(request: Request<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
