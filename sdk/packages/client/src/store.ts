// The seam to what survives a restart: rows of text. What they say is the business of `cache/`.

/** Whose rows these are. */
export interface StoreOwner {
  readonly appId: string;
  readonly userId: string;
}

/** Key → text; undefined deletes. */
export type Changes = ReadonlyMap<string, string | undefined>;

/** Keeps rows. Every call may take its time; `write` is never called again by one client before it has ended. */
export interface Store {
  /** All keys that begin with `prefix`, in any order. */
  keys(prefix: string): Promise<readonly string[]> | readonly string[];
  /** The rows of these keys, in their order; undefined for those that are not there. */
  read(keys: readonly string[]): Promise<readonly (string | undefined)[]> | readonly (string | undefined)[];
  /** Writes these rows and leaves all others; together, where the platform can, else what is put before what is deleted. */
  write(changes: Changes): Promise<void> | void;
}
