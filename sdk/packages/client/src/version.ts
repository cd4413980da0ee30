// How this client introduces itself at the log-in.

/** A test keeps it equal to package.json. */
export const VERSION = "parlance-ts/0.1.0";

/** The versions of the protocol that this library speaks. */
export const PROTOCOLS = { min: 1, max: 1 } as const;

/** The gateway refuses a send whose predecessor it refused, so that several may be on their way. */
export const ORDERED_SENDS = "ordered_sends";

/** What it can do beyond them, by name. */
export const CAPABILITIES: readonly string[] = [ORDERED_SENDS];
