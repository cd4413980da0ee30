// Everything the client tells the app, in one map.
import { AppError, type ParlanceError } from "./errors.js";
import type { Conversation, ConversationEvent, ConversationMessage, PendingMessage, Session } from "./model.js";
import { EventStream, type StreamOptions } from "./stream.js";

/** Where the connection stands. */
export type ConnectionState =
  /** `connect` was not called yet. */
  | "idle"
  /** Getting a token, opening the socket or logging in. */
  | "connecting"
  /** Logged in. */
  | "online"
  /** The connection is lost; the next attempt comes after a wait. */
  | "waiting"
  /** `close` was called, or the cluster does not want this client back. `connect` opens it again. */
  | "closed";

/** A change of the connection. */
export interface StateChange {
  readonly state: ConnectionState;
  readonly previous: ConnectionState;
  /** Why, when it was not asked for. */
  readonly error?: ParlanceError;
  /** When `waiting`: until the next attempt. */
  readonly retryInMs?: number;
}

/** A read cursor moved. */
export interface ReadChange {
  readonly conversationId: string;
  readonly userId: string;
  readonly readSeq: number;
  /** It is this user's own cursor, moved here or on another device. */
  readonly own: boolean;
}

/** Events that the cluster no longer has, so that the app will never be given them. */
export interface GapNotice {
  readonly conversationId: string;
  readonly fromSeq: number;
  readonly toSeq: number;
}

/** A message that is given up. */
export interface UnsentNotice {
  readonly message: PendingMessage;
  readonly error: ParlanceError;
}

/** Event name → what listeners get. */
export interface ClientEvents {
  /** Each change of the connection's state. Not for the steps of `connecting`. */
  state: StateChange;
  /**
   * Each event of each conversation, own messages included, once and in order of `seq`.
   * Not for what is older than this user's first log-in with this store: that is history.
   */
  event: ConversationEvent;
  /** As `event`, for messages only. */
  message: ConversationMessage;
  /** A cursor moved forward. Not for each step: several moves may come as one. */
  read: ReadChange;
  /** Something about a conversation changed: head, cursors, unread count. Not for pages that `listConversations` fetches. */
  conversation: Conversation;
  /** All conversations are level with the cluster. After each log-in and each resync, not after single events. */
  synced: Session;
  /** Events are gone for good, for example by the app's retention. Not for gaps that get filled. */
  gap: GapNotice;
  /** A message that an earlier run left in the store could not be sent. */
  unsent: UnsentNotice;
  /** Something failed that no promise reports: `getToken`, the store, a listener, a refused frame. */
  error: ParlanceError;
}

/** A listener of one kind of event. */
export type Listener<Name extends keyof ClientEvents> = (value: ClientEvents[Name]) => void;

type Listeners = { [Name in keyof ClientEvents]: Set<Listener<Name>> };

/** Calls listeners in the order in which they came. One that throws harms nobody else. */
export class Emitter {
  readonly #listeners: Listeners = {
    state: new Set(),
    event: new Set(),
    message: new Set(),
    read: new Set(),
    conversation: new Set(),
    synced: new Set(),
    gap: new Set(),
    unsent: new Set(),
    error: new Set(),
  };

  /** Returns what takes the listener away again. */
  on<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): () => void {
    const listeners: Set<Listener<Name>> = this.#listeners[name];
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  off<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): void {
    const listeners: Set<Listener<Name>> = this.#listeners[name];
    listeners.delete(listener);
  }

  emit<Name extends keyof ClientEvents>(name: Name, value: ClientEvents[Name]): void {
    const listeners: Set<Listener<Name>> = this.#listeners[name];
    for (const listener of [...listeners]) {
      try {
        listener(value);
      } catch (cause) {
        // A listener of errors that throws has nobody left to tell.
        if (name !== "error") {
          this.emit("error", new AppError("listener", `a listener of "${name}" threw`, { cause }));
        }
      }
    }
  }
}

/** Something that can be listened to. */
export abstract class Listenable {
  /** @internal */
  protected readonly emitter = new Emitter();

  /** Listens; returns what stops listening. */
  on<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): () => void {
    return this.emitter.on(name, listener);
  }

  /** Stops a listener. */
  off<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): void {
    this.emitter.off(name, listener);
  }

  /** Listens to the next one; returns what stops listening. */
  once<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): () => void {
    const stop = this.on(name, (value) => {
      stop();
      listener(value);
    });
    return stop;
  }

  /** For `for await`: what happens from now on, one after the other, until the client is closed. */
  stream<Name extends keyof ClientEvents>(
    name: Name,
    options: StreamOptions = {},
  ): AsyncIterableIterator<ClientEvents[Name]> {
    const stops: (() => void)[] = [];
    const stream = new EventStream<ClientEvents[Name]>(options, () => {
      for (const stop of stops) stop();
    });
    stops.push(this.on(name, (value) => stream.push(value)));
    stops.push(
      this.on("state", ({ state }) => {
        if (state === "closed") stream.end();
      }),
    );
    if (options.signal?.aborted === true) stream.end();
    return stream;
  }
}
