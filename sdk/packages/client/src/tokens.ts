// Keeps the token between connections and asks the app for a new one only when the cluster refused it.
import type { Clock } from "./clock.js";
import { within } from "./deadline.js";
import { AppError, TokenError } from "./errors.js";
import type { Credentials, GivenToken, TokenReason } from "./options.js";

/** One token at a time. */
export class Tokens {
  readonly #get: (reason: TokenReason) => Promise<GivenToken> | GivenToken;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #token: Credentials | undefined;
  #reason: TokenReason = "first";
  /** The token was accepted once, so that its refusal means it became too old. */
  #accepted = false;
  #refusals = 0;

  /** A token that does not come in time is as one that failed; when it comes later nobody wants it. */
  constructor(get: (reason: TokenReason) => Promise<GivenToken> | GivenToken, clock: Clock, timeoutMs: number) {
    this.#get = get;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** The token to log in with; rejects with an error of code `token_source`. */
  current(): Promise<Credentials> {
    return this.#token === undefined ? this.#ask(this.#reason) : Promise.resolve(this.#token);
  }

  /** A newer one for the session that is open, and the log-ins after it; the one before stays until it is there. */
  renewed(): Promise<Credentials> {
    return this.#ask("expired");
  }

  async #ask(reason: TokenReason): Promise<Credentials> {
    // An app's own function may throw at once.
    const asked = new Promise<GivenToken>((resolve) => resolve(this.#get(reason)));
    try {
      const given = await within(this.#clock, this.#timeoutMs, "getToken", asked);
      const token = typeof given === "string" ? { token: given } : given;
      if (typeof token?.token !== "string" || token.token === "") throw new TypeError("getToken gave no token");
      this.#token = token;
      return token;
    } catch (cause) {
      throw new AppError("token_source", "getToken failed", { cause });
    }
  }

  accept(): void {
    this.#accepted = true;
  }

  /** Drops the token; returns how many were refused since `forgive`. */
  refuse(error: unknown): number {
    const expired = error instanceof TokenError && error.code === "token_expired";
    this.#reason = expired || this.#accepted ? "expired" : "refused";
    this.#token = undefined;
    this.#accepted = false;
    this.#refusals += 1;
    return this.#refusals;
  }

  /** Refusals before this count no longer. */
  forgive(): void {
    this.#refusals = 0;
  }
}
