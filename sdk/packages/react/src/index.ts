// Hooks on a client. Each shows a snapshot that stays the same until something changes, so that React draws no more than
// it must.
import type {
  ClientEvents,
  Conversation,
  Listener,
  ParlanceClient,
  Said,
  SendResult,
  StateChange,
  Target,
  Timeline,
  TimelineSnapshot,
} from "@parlance/client";
import {
  createContext,
  createElement,
  type ReactElement,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useSyncExternalStore,
} from "react";

const ClientContext = createContext<ParlanceClient | undefined>(undefined);

/** What a provider takes. */
export interface ParlanceProviderProps {
  readonly client: ParlanceClient;
  /** Connects while it is mounted, and closes then. Default: true. With `false` that is the app's business. */
  readonly connect?: boolean;
  readonly children?: ReactNode;
}

/** Gives a client to all hooks below it. */
export function ParlanceProvider({ client, connect = true, children }: ParlanceProviderProps): ReactElement {
  useEffect(() => {
    if (!connect) return undefined;
    // `useConnection` tells why.
    client.connect().catch(() => {});
    return () => client.close();
  }, [client, connect]);
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** The client of the provider above. */
export function useClient(): ParlanceClient {
  const client = useContext(ClientContext);
  if (client === undefined) throw new TypeError("there is no ParlanceProvider above");
  return client;
}

/** Where the connection stands: its state, and when it is not as it should be, why. */
export function useConnection(): StateChange {
  const client = useClient();
  const subscribe = useCallback((changed: () => void) => client.on("state", changed), [client]);
  return useSyncExternalStore(
    subscribe,
    () => client.connection,
    () => client.connection,
  );
}

/** All conversations, the latest first. */
export function useConversations(): readonly Conversation[] {
  const { watchConversations, conversations } = useClient();
  return useSyncExternalStore(watchConversations, conversations, conversations);
}

/** One conversation; drawn again only when that one changes. */
export function useConversation(conversationId: string): Conversation | undefined {
  const client = useClient();
  const subscribe = useCallback(
    (changed: () => void) => client.watchConversation(conversationId, changed),
    [client, conversationId],
  );
  const snapshot = (): Conversation | undefined => client.conversation(conversationId);
  return useSyncExternalStore(subscribe, snapshot, snapshot);
}

/** Messages of others that were not read, over all conversations. */
export function useUnreadCount(): number {
  const { watchConversations, conversations } = useClient();
  const count = (): number => conversations().reduce((sum, { unreadCount }) => sum + unreadCount, 0);
  return useSyncExternalStore(watchConversations, count, count);
}

/** A conversation as it is shown, and what can be done with it. */
export interface Messages extends TimelineSnapshot {
  /** Sends a message. One that fails is shown in `pending`, with its error: the promise need not be looked at. */
  send(said: Said): Promise<SendResult>;
  /** Gets a page of older events. */
  loadOlder(): Promise<void>;
  /** Sends one that failed again. */
  retry(clientMessageId: string): Promise<SendResult>;
  /** Forgets one that failed. */
  discard(clientMessageId: string): void;
}

const NOTHING: TimelineSnapshot = {
  conversationId: "",
  events: [],
  pending: [],
  more: true,
  loading: false,
  error: undefined,
};

/**
 * The messages of a conversation, by its id or by the other user; the newest page is loaded by itself. With `to` there
 * are none until the first log-in, unless the client has the option `owner`.
 */
export function useMessages(target: Target): Messages {
  const client = useClient();
  const to = "to" in target ? target.to : undefined;
  const conversationId = "to" in target ? undefined : target.conversationId;
  // A log-in can make it known who the other user's partner is.
  const { state } = useConnection();
  const timeline = timelineOf(client, to, conversationId);
  const subscribe = useCallback(
    (changed: () => void) => (timeline === undefined ? () => {} : timeline.subscribe(changed)),
    [timeline],
  );
  const snapshot = timeline?.snapshot ?? nothing;
  const shown = useSyncExternalStore(subscribe, snapshot, snapshot);
  useEffect(() => {
    // What could not be had without a connection is tried again with each change of it.
    if (state !== "closed" && timeline?.snapshot().events.length === 0) void timeline.loadOlder();
  }, [timeline, state]);
  return useMemo(
    () => ({
      ...shown,
      send: (said) =>
        shownIfItFails(
          client.send({ ...(to === undefined ? { conversationId: conversationId ?? "" } : { to }), ...said }),
        ),
      loadOlder: () => timeline?.loadOlder() ?? Promise.resolve(),
      retry: (id) =>
        shownIfItFails(timeline?.retry(id) ?? Promise.reject(new TypeError(`no message ${id} has failed here`))),
      discard: (id) => timeline?.discard(id),
    }),
    [client, timeline, shown, to, conversationId],
  );
}

/** Calls `listener` while the component is mounted; the newest one given. */
export function useEvent<Name extends keyof ClientEvents>(name: Name, listener: Listener<Name>): void {
  const client = useClient();
  const newest = useRef(listener);
  useEffect(() => {
    newest.current = listener;
  });
  useEffect(() => client.on(name, (value) => newest.current(value)), [client, name]);
}

/** `pending` shows what failed: nobody has to catch it besides. */
function shownIfItFails(sent: Promise<SendResult>): Promise<SendResult> {
  sent.catch(() => {});
  return sent;
}

function nothing(): TimelineSnapshot {
  return NOTHING;
}

function timelineOf(client: ParlanceClient, to?: string, conversationId?: string): Timeline | undefined {
  if (to === undefined) return client.timeline({ conversationId: conversationId ?? "" });
  return client.self === undefined ? undefined : client.timeline({ to });
}
