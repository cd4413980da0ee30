// What is not acknowledged, in rows `o/<time>/<run>/<n>`: in the order in which it was sent. A client writes rows of its
// own run, which nobody else writes, and takes over those of runs that have ended. Where nobody can tell which have, a
// message may be sent by two clients at once: it is stored once.
import { AppError, type ParlanceError } from "../errors.js";
import { Claims, type Locks } from "../locks.js";
import type { PendingMessage } from "../model.js";
import { newId, type RandomSource } from "../random.js";
import { utf8Length } from "../utf8.js";
import { seal, unseal } from "./text.js";
import { fromPending, toPending } from "./values.js";
import type { Writer } from "./writer.js";

export interface LettersContext {
  readonly random: RandomSource;
  readonly locks: Locks | undefined;
  /** For all rows together. */
  readonly bytesMax: number;
  damaged(key: string): void;
  failed(error: ParlanceError): void;
}

/** Rows that were found, before the release of that number. */
export interface Found {
  readonly releases: number;
  readonly rows: readonly (readonly [string, string | undefined])[];
}

const TIME_DIGITS = 15;
const NUMBER_DIGITS = 9;

export class Letters {
  readonly #context: LettersContext;
  readonly #claims: Claims;
  /** Client message id → its rows: after a retry elsewhere there can be two. */
  #rows = new Map<string, string[]>();
  /** Those that it let go of when it was closed: the app may still say that one is not wanted. */
  #released: ReadonlyMap<string, string[]> = new Map();
  /** Row → its bytes. */
  readonly #kept = new Map<string, number>();
  #bytes = 0;
  #run: string | undefined;
  #lastTime = 0;
  #count = 0;
  #releases = 0;

  constructor(context: LettersContext) {
    this.#context = context;
    this.#claims = new Claims(context.locks);
  }

  /** A row of an earlier run, or of another client: what is new here comes behind it, whatever the clock says. */
  saw(key: string): void {
    const time = Number(key.split("/")[1]);
    if (Number.isSafeInteger(time)) this.#lastTime = Math.max(this.#lastTime, time + 1);
  }

  /** Writes a message, or how it is now. */
  put(writer: Writer, message: PendingMessage): void {
    const { bytesMax, failed } = this.#context;
    const row = seal(fromPending(message));
    const bytes = utf8Length(row);
    const known = this.#rows.get(message.clientMessageId)?.[0];
    if (known === undefined && this.#bytes + bytes > bytesMax) {
      return failed(new AppError("store", `no room to remember message ${message.clientMessageId} over a restart`));
    }
    const key = known ?? this.#newKey(writer, message);
    this.#keep(message.clientMessageId, key, bytes);
    writer.put(key, row);
  }

  /** It is no longer to be sent. */
  delete(writer: Writer, clientMessageId: string): void {
    for (const key of this.#rows.get(clientMessageId) ?? this.#released.get(clientMessageId) ?? []) {
      this.#bytes -= this.#kept.get(key) ?? 0;
      this.#kept.delete(key);
      writer.put(key, undefined);
    }
    this.#rows.delete(clientMessageId);
  }

  /** Rows that nobody who lives has in hand: `take` them. */
  async left(writer: Writer): Promise<Found> {
    const releases = this.#releases;
    const keys: string[] = [];
    for (const key of (await writer.keys("o/")).sort()) {
      // To claim more would keep others from it.
      if (releases !== this.#releases) break;
      const [, , run, count] = key.split("/");
      if (run === undefined || count === undefined) this.#context.damaged(key);
      else if (!this.#kept.has(key) && run !== this.#run && (await this.#claims.claim(writer.prefix + run))) {
        keys.push(key);
      }
    }
    const rows = await writer.read(keys);
    return { releases, rows: keys.map((key, index) => [key, rows[index]] as const) };
  }

  /** From now on they are in this client's hands; none if it let go of all since they were found. */
  take({ releases, rows }: Found): PendingMessage[] {
    if (releases !== this.#releases) return [];
    const found: PendingMessage[] = [];
    for (const [key, row] of rows) {
      if (row === undefined) continue;
      const message = toPending(unseal(row));
      if (message === undefined) {
        this.#context.damaged(key);
        continue;
      }
      this.#keep(message.clientMessageId, key, utf8Length(row));
      found.push(message);
    }
    return found;
  }

  /** Lets go of all that is left: it is for whoever comes next. */
  release(): void {
    this.#releases += 1;
    this.#released = this.#rows;
    this.#rows = new Map();
    this.#kept.clear();
    this.#bytes = 0;
    this.#run = undefined;
    this.#claims.release();
  }

  #newKey(writer: Writer, message: PendingMessage): string {
    if (this.#run === undefined) {
      this.#run = newId(this.#context.random);
      void this.#claims.claim(writer.prefix + this.#run);
    }
    // Within a run the order holds, whatever becomes of the clock.
    this.#lastTime = Math.max(this.#lastTime, Math.floor(message.timeMs));
    this.#count += 1;
    return `o/${digits(this.#lastTime, TIME_DIGITS)}/${this.#run}/${digits(this.#count, NUMBER_DIGITS)}`;
  }

  #keep(clientMessageId: string, key: string, bytes: number): void {
    const rows = this.#rows.get(clientMessageId) ?? [];
    if (rows.indexOf(key) < 0) this.#rows.set(clientMessageId, [...rows, key]);
    this.#bytes += bytes - (this.#kept.get(key) ?? 0);
    this.#kept.set(key, bytes);
  }
}

function digits(value: number, count: number): string {
  let text = String(value);
  while (text.length < count) text = `0${text}`;
  return text;
}
