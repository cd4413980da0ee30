// The conversations as the app may show them: heads, cursors and unread counts, kept level with events and cursors.
import type { ReadChange } from "./events.js";
import type { Conversation, ConversationEvent, ReadResult } from "./model.js";

/** What the view tells. */
export interface ConversationsContext {
  changed(conversation: Conversation): void;
  /** What an earlier run showed is shown again, or no longer. */
  restored(conversationId: string): void;
  read(change: ReadChange): void;
  /** The count cannot be known from here: the cluster can tell. */
  unsure(conversationId: string): void;
}

/** One conversation. The cluster's word is true at `listedHead`; what came after it is counted here. */
interface View {
  shown: Conversation;
  listedHead: number;
  listedUnread: number;
  /** Messages of others above `listedHead`, ascending. */
  others: number[];
}

/** Above this the count is asked for again instead of remembered. */
const OTHERS_MAX = 1_000;

export class Conversations {
  readonly #context: ConversationsContext;
  readonly #views = new Map<string, View>();
  #userId = "";
  /** Sorted, until something changes. */
  #all: readonly Conversation[] | undefined;

  constructor(context: ConversationsContext) {
    this.#context = context;
  }

  /** Whose conversations these are. */
  setUser(userId: string): void {
    this.#userId = userId;
  }

  /** The latest first; the same array until something changes. */
  all(): readonly Conversation[] {
    const time = (c: Conversation): number => c.lastEvent?.timeMs ?? 0;
    this.#all ??= [...this.#views.values()].map((view) => view.shown).sort((a, b) => time(b) - time(a));
    return this.#all;
  }

  /** What an earlier run showed, where nothing is known yet. */
  restore(conversations: readonly Conversation[]): void {
    for (const shown of conversations) {
      if (this.#views.has(shown.conversationId)) continue;
      const { headSeq: listedHead, unreadCount: listedUnread } = shown;
      this.#views.set(shown.conversationId, { shown, listedHead, listedUnread, others: [] });
      this.#all = undefined;
      this.#context.restored(shown.conversationId);
    }
  }

  /** The same object until something changes. */
  get(conversationId: string): Conversation | undefined {
    return this.#views.get(conversationId)?.shown;
  }

  /** The cluster does not have it. */
  remove(conversationId: string): void {
    if (!this.#views.delete(conversationId)) return;
    this.#all = undefined;
    this.#context.restored(conversationId);
  }

  /** What the cluster says now. */
  listed(conversation: Conversation): void {
    const { conversationId, headSeq } = conversation;
    const view = this.#views.get(conversationId);
    if (view === undefined) {
      this.#views.set(conversationId, {
        shown: conversation,
        listedHead: headSeq,
        listedUnread: conversation.unreadCount,
        others: [],
      });
      this.#changed(conversation);
      return;
    }
    const old = view.shown;
    if (headSeq < view.listedHead || conversation.readSeq < old.readSeq) return;
    view.listedHead = headSeq;
    view.listedUnread = conversation.unreadCount;
    view.others = view.others.filter((seq) => seq > headSeq);
    // What a list says of an event may be cut short: what was handed out is not.
    const newer = headSeq > old.headSeq || old.lastEvent === undefined ? conversation : old;
    const peerReadSeq = Math.max(old.peerReadSeq, conversation.peerReadSeq);
    this.#show(view, { ...conversation, headSeq: newer.headSeq, lastEvent: newer.lastEvent, peerReadSeq });
    this.#tellCursors(old, view.shown);
  }

  /** Cursors that moved while nobody was listening. */
  #tellCursors(old: Conversation, now: Conversation): void {
    const { conversationId, peer, readSeq, peerReadSeq } = now;
    if (readSeq > old.readSeq) this.#context.read({ conversationId, userId: this.#userId, readSeq, own: true });
    if (peerReadSeq > old.peerReadSeq)
      this.#context.read({ conversationId, userId: peer, readSeq: peerReadSeq, own: false });
  }

  /** The next event of its conversation was handed out. */
  delivered(event: ConversationEvent): void {
    const view = this.#views.get(event.conversationId) ?? this.#create(event);
    const counts = event.type === "message" && event.sender !== this.#userId;
    if (counts && event.seq > view.listedHead) {
      view.others.push(event.seq);
      if (view.others.length > OTHERS_MAX) this.#context.unsure(event.conversationId);
    }
    const isNewest = event.seq >= view.shown.headSeq;
    this.#show(view, isNewest ? { ...view.shown, headSeq: event.seq, lastEvent: event } : view.shown);
  }

  /** A cursor was pushed. */
  cursor(conversationId: string, userId: string, readSeq: number): void {
    const view = this.#views.get(conversationId);
    const own = userId === this.#userId;
    // A cursor that came before its conversation's first event: the cluster has both.
    if (view === undefined) return this.#context.unsure(conversationId);
    if (readSeq <= (own ? view.shown.readSeq : view.shown.peerReadSeq)) return;
    if (own) this.#readTo(view, readSeq);
    else this.#show(view, { ...view.shown, peerReadSeq: readSeq });
    this.#context.read({ conversationId, userId, readSeq, own });
  }

  /** This session moved the own cursor. */
  marked(result: ReadResult): void {
    this.cursor(result.conversationId, this.#userId, result.readSeq);
  }

  #readTo(view: View, readSeq: number): void {
    if (readSeq < view.listedHead && view.listedUnread > 0) this.#context.unsure(view.shown.conversationId);
    if (readSeq >= view.listedHead) view.listedUnread = 0;
    view.others = view.others.filter((seq) => seq > readSeq);
    this.#show(view, { ...view.shown, readSeq });
  }

  #create(event: ConversationEvent): View {
    const { conversationId } = event;
    const peer = peerOf(conversationId, this.#userId);
    const shown: Conversation = {
      conversationId,
      kind: peer === undefined ? "unknown" : "direct",
      peer: peer ?? "",
      headSeq: 0,
      readSeq: 0,
      peerReadSeq: 0,
      unreadCount: 0,
      lastEvent: undefined,
    };
    const view: View = { shown, listedHead: 0, listedUnread: 0, others: [] };
    this.#views.set(conversationId, view);
    return view;
  }

  #show(view: View, shown: Conversation): void {
    const old = view.shown;
    const next = { ...shown, unreadCount: view.listedUnread + view.others.length };
    if ((Object.keys(next) as (keyof Conversation)[]).every((key) => isSame(old[key], next[key]))) return;
    view.shown = next;
    this.#changed(next);
  }

  #changed(conversation: Conversation): void {
    this.#all = undefined;
    this.#context.changed(conversation);
  }
}

/** Events of one conversation are the same if their seq is. */
function isSame(a: Conversation[keyof Conversation], b: Conversation[keyof Conversation]): boolean {
  return a === b || (typeof a === "object" && typeof b === "object" && a.seq === b.seq && a.type === b.type);
}

/** The other user of a direct conversation, read from its id. */
function peerOf(conversationId: string, userId: string): string | undefined {
  if (!conversationId.startsWith("d:")) return undefined;
  const users = conversationId.slice(conversationId.indexOf(":", 2) + 1);
  if (users.startsWith(`${userId}:`) && !users.endsWith(`:${userId}`)) return users.slice(userId.length + 1);
  if (users.endsWith(`:${userId}`)) return users.slice(0, -userId.length - 1);
  return undefined;
}
