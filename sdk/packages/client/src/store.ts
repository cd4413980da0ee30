// The seam to what survives a restart: how far each conversation was handed to the app.

/** Whose positions these are. */
export interface StoreOwner {
  readonly appId: string;
  readonly userId: string;
}

/** Conversation id → the last seq that was handed to the app. */
export type Positions = ReadonlyMap<string, number>;

/** Keeps positions. Both calls may take their time; `save` is never called again before it has ended. */
export interface Store {
  /** Undefined when this user never logged in here: then what is older than now is history, not news. */
  load(owner: StoreOwner): Promise<Positions | undefined> | Positions | undefined;
  /** Merges `changed` into what is stored; an empty map marks that the user logged in. */
  save(owner: StoreOwner, changed: Positions): Promise<void> | void;
}
