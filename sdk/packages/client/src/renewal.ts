// Puts a new token in the place of one that is about to end; tries again until it works or the session is over.
import { Backoff, type BackoffOptions } from "./backoff.js";
import { Alarm, type Clock } from "./clock.js";
import { asError, type ParlanceError } from "./errors.js";
import type { Credentials } from "./options.js";
import type { RandomSource } from "./random.js";

export interface RenewalContext {
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly backoff: BackoffOptions;
  /** The app's next token. */
  newToken(): Promise<Credentials>;
  /** Gives it to the gateway. */
  renew(token: Credentials): Promise<unknown>;
  failed(error: ParlanceError): void;
}

export class Renewal {
  readonly #context: RenewalContext;
  readonly #retry: Alarm;
  readonly #backoff: Backoff;
  #run = 0;

  constructor(context: RenewalContext) {
    this.#context = context;
    this.#retry = new Alarm(context.clock);
    this.#backoff = new Backoff(context.backoff, context.random);
  }

  /** The token ends soon. */
  start(): void {
    this.stop();
    void this.#try(this.#run);
  }

  /** The session is over: the next log-in needs a token anyway. */
  stop(): void {
    this.#run += 1;
    this.#retry.stop();
    this.#backoff.reset();
  }

  async #try(run: number): Promise<void> {
    try {
      const token = await this.#context.newToken();
      if (run === this.#run) await this.#context.renew(token);
    } catch (cause) {
      if (run !== this.#run) return;
      this.#context.failed(asError("token_source", "the token was not renewed", cause));
      this.#retry.start(this.#backoff.next(), () => void this.#try(run));
    }
  }
}
