// Writes rows: one write at a time, everything since the last one together, and only what changed.
import { asError, type ParlanceError } from "../errors.js";
import type { Store } from "../store.js";

export interface WriterContext {
  readonly store: Store;
  /** What stands before each key. */
  readonly prefix: string;
  failed(error: ParlanceError): void;
  /** The store may be full: keys of rows that can go, most of all those of what is being written. */
  makeRoom(): readonly string[];
}

export class Writer {
  readonly #context: WriterContext;
  #changed = new Map<string, string | undefined>();
  /** What is being written. */
  #saving: ReadonlyMap<string, string | undefined> = new Map();
  #writing: Promise<void> | undefined;

  constructor(context: WriterContext) {
    this.#context = context;
  }

  /** Keys without the prefix; undefined deletes. */
  put(key: string, row: string | undefined): void {
    this.#changed.set(key, row);
    this.#writing ??= this.#write();
  }

  /** Forgets what is not written yet; resolves when nothing is being written. */
  async stop(): Promise<void> {
    this.#changed.clear();
    await this.#writing;
  }

  /** Rows as they are or will be. */
  async read(keys: readonly string[]): Promise<(string | undefined)[]> {
    const { store, prefix } = this.#context;
    const known = [this.#changed, this.#saving];
    const unknown = keys.filter((key) => !known.some((rows) => rows.has(key)));
    const rows = unknown.length === 0 ? [] : await store.read(unknown.map((key) => prefix + key));
    const read = new Map(unknown.map((key, index) => [key, rows[index]]));
    return keys.map((key) => (known.find((changes) => changes.has(key)) ?? read).get(key));
  }

  async #write(): Promise<void> {
    // Lets what belongs together gather.
    await Promise.resolve();
    while (this.#changed.size > 0) {
      const changes = this.#changed;
      this.#saving = changes;
      this.#changed = new Map();
      if (!(await this.#tried(changes))) break;
    }
    this.#saving = new Map();
    this.#writing = undefined;
  }

  /** False: it goes along with the next change. */
  async #tried(changes: Map<string, string | undefined>): Promise<boolean> {
    try {
      await this.#save(changes);
      return true;
    } catch (first) {
      this.#context.failed(asError("store", "the store failed to save, and is asked again with less", first));
    }
    const gone = this.#context.makeRoom();
    for (const key of gone) changes.set(key, undefined);
    try {
      // Deletions first: they make the room.
      await this.#save(new Map([...changes].filter(([, row]) => row === undefined)));
      await this.#save(changes);
      return true;
    } catch (cause) {
      for (const [key, row] of changes) if (!this.#changed.has(key)) this.#changed.set(key, row);
      this.#context.failed(asError("store", "the store failed to save", cause));
      return false;
    }
  }

  async #save(changes: ReadonlyMap<string, string | undefined>): Promise<void> {
    const { store, prefix } = this.#context;
    await store.write(new Map([...changes].map(([key, row]) => [prefix + key, row])));
  }
}
