// The default store: forgets at a restart.
import type { Positions, Store, StoreOwner } from "../store.js";

/** Lives as long as the object; hand the same one to a new client to go on where the old one ended. */
export class MemoryStore implements Store {
  readonly #owners = new Map<string, Map<string, number>>();

  load(owner: StoreOwner): Positions | undefined {
    const known = this.#owners.get(key(owner));
    return known === undefined ? undefined : new Map(known);
  }

  save(owner: StoreOwner, changed: Positions): void {
    const known = this.#owners.get(key(owner)) ?? new Map<string, number>();
    for (const [conversationId, seq] of changed) known.set(conversationId, seq);
    this.#owners.set(key(owner), known);
  }
}

function key(owner: StoreOwner): string {
  return JSON.stringify([owner.appId, owner.userId]);
}
