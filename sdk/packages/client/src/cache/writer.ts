// Writes rows: one write at a time, everything since the last one together, and only what changed. When that fails the
// store may be full: then room is made, and what matters most goes first. What could be fetched again is let go.
import { Alarm, type Clock } from "../clock.js";
import { AppError, asError, type ParlanceError } from "../errors.js";
import type { Store } from "../store.js";

type Rows = Map<string, string | undefined>;

export interface WriterContext {
  readonly clock: Clock;
  readonly store: Store;
  /** What stands before each key. */
  readonly prefix: string;
  failed(error: ParlanceError): void;
  /** The store may be full: keys of rows that can go, perhaps of some that are being written. */
  makeRoom(): readonly string[];
  /** These found no room, and are not asked for again. */
  dropped(keys: readonly string[]): void;
}

/** A write that takes so long is told of; what comes next waits for it all the same, so that the last one counts. */
const WRITE_TIMEOUT_MS = 10_000;

export class Writer {
  readonly #context: WriterContext;
  #changed: Rows = new Map();
  /** What is written when nothing else is left to write. */
  #last: Rows = new Map();
  /** What is being written. */
  #saving: Rows = new Map();
  #writing: Promise<void> | undefined;

  constructor(context: WriterContext) {
    this.#context = context;
  }

  get prefix(): string {
    return this.#context.prefix;
  }

  /** Keys without the prefix; undefined deletes. */
  put(key: string, row: string | undefined): void {
    this.#last.delete(key);
    this.#changed.set(key, row);
    this.#writing ??= this.#write();
  }

  /** As `put`, and not before everything is written that was put until now. */
  putLast(key: string, row: string | undefined): void {
    this.#last.set(key, row);
    this.#writing ??= this.#write();
  }

  /** As `put`, if the row is not to come last anyway: then it comes in the place of that one. */
  putAlong(key: string, row: string): void {
    if (this.#last.has(key)) this.#last.set(key, row);
    else this.put(key, row);
  }

  /** Deletes a row that another one stands for, once that is written. */
  replaced(key: string): void {
    if (this.#changed.get(key) === undefined) this.put(key, undefined);
    else this.#changed.delete(key);
  }

  /** Forgets what is not written yet; resolves when nothing is being written. */
  async stop(): Promise<void> {
    this.#changed.clear();
    this.#last.clear();
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

  /** Keys that begin with `start`, as they are or will be. */
  async keys(start: string): Promise<string[]> {
    const { store, prefix } = this.#context;
    const keys = new Set((await store.keys(prefix + start)).map((key) => key.slice(prefix.length)));
    for (const [key, row] of [...this.#saving, ...this.#changed]) {
      if (row === undefined) keys.delete(key);
      else if (key.startsWith(start)) keys.add(key);
    }
    return [...keys];
  }

  async #write(): Promise<void> {
    // Lets what belongs together gather.
    await Promise.resolve();
    while (this.#changed.size + this.#last.size > 0) {
      if (this.#changed.size === 0) [this.#changed, this.#last] = [this.#last, new Map()];
      const changes = this.#changed;
      this.#saving = changes;
      this.#changed = new Map();
      if (!(await this.#tried(changes))) break;
    }
    this.#saving = new Map();
    this.#writing = undefined;
  }

  /** False: something goes along with the next change. */
  async #tried(changes: Rows): Promise<boolean> {
    const first = await this.#save(changes);
    if (first === undefined) return true;
    this.#context.failed(asError("store", "the store failed to save, and is asked again with less", first.cause));
    let failure: { cause: unknown } | undefined;
    const weights = byWeight(changes);
    for (const rows of weights) {
      if ((await this.#save(rows)) === undefined) continue;
      await this.#makeRoom(weights);
      const second = await this.#save(rows);
      if (second === undefined) continue;
      failure = second;
      for (const [key, row] of rows) if (!canGo(key, row) && !this.#changed.has(key)) this.#changed.set(key, row);
      this.#context.dropped([...rows].filter(([key, row]) => canGo(key, row)).map(([key]) => key));
    }
    if (failure === undefined) return true;
    this.#context.failed(asError("store", "the store failed to save", failure.cause));
    return false;
  }

  async #makeRoom(unsaved: readonly Rows[]): Promise<void> {
    const gone = this.#context.makeRoom();
    for (const rows of [...unsaved, this.#changed]) for (const key of gone) rows.delete(key);
    const failure = await this.#save(new Map(gone.map((key) => [key, undefined])));
    if (failure !== undefined) for (const key of gone) this.#changed.set(key, undefined);
  }

  async #save(changes: Rows): Promise<{ cause: unknown } | undefined> {
    const { clock, store, prefix, failed } = this.#context;
    const overdue = new Alarm(clock);
    try {
      const writing = changes.size > 0 && store.write(new Map([...changes].map(([key, row]) => [prefix + key, row])));
      if (!writing) return undefined;
      const message = `the store did not end a write within ${WRITE_TIMEOUT_MS} ms: nothing new is remembered until it does`;
      overdue.start(WRITE_TIMEOUT_MS, () => failed(new AppError("store", message)));
      await writing;
      return undefined;
    } catch (cause) {
      return { cause };
    } finally {
      overdue.stop();
    }
  }
}

/** It can be had from the cluster. */
function canGo(key: string, row: string | undefined): boolean {
  return row !== undefined && /^[ec]\//.test(key);
}

/** Where the user is, and what goes; what is not sent yet; what can be had from the cluster. */
function byWeight(changes: Rows): Rows[] {
  const weights: [Rows, Rows, Rows] = [new Map(), new Map(), new Map()];
  for (const [key, row] of changes) {
    weights[canGo(key, row) ? 2 : row !== undefined && key.startsWith("o/") ? 1 : 0].set(key, row);
  }
  return weights;
}
