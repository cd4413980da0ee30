// The open conversation: messages with scroll-back, and the field to write in.
import type { ConversationEvent, ParlanceClient, ShownPending, Timeline, TimelineSnapshot } from "@parlance/client";
import { arrange, element, setText } from "./dom.js";
import { dayOf, initials, tint } from "./format.js";
import { markRead, pendingMessage, storedMessage } from "./message-view.js";

/** What the chat asks of the page. */
export interface ChatActions {
  back(): void;
}

/** Distance from an end of the list that counts as being there, in pixels. */
const NEAR = 80;

export class ChatView {
  readonly root: HTMLElement;
  readonly peer: string;
  readonly #client: ParlanceClient;
  readonly #timeline: Timeline;
  readonly #self: string;
  readonly #messages = new Map<number, HTMLElement>();
  readonly #pending = new Map<string, { readonly row: HTMLElement; readonly failed: boolean }>();
  readonly #days = new Map<string, HTMLElement>();
  readonly #top = element("li", { class: "top" });
  readonly #list: HTMLElement;
  readonly #scroller: HTMLElement;
  readonly #field: HTMLTextAreaElement;
  readonly #status = element("p", { class: "status" });
  #atEnd = true;

  constructor(client: ParlanceClient, peer: string, self: string, actions: ChatActions) {
    this.#client = client;
    this.#timeline = client.timeline({ to: peer });
    this.#self = self;
    this.peer = peer;
    this.#list = element("ol", {
      class: "messages",
      role: "log",
      "aria-live": "polite",
      "aria-label": `Messages with ${peer}`,
    });
    this.#scroller = element(
      "div",
      { class: "scroller", tabindex: "0", on: { scroll: () => this.#scrolled() } },
      this.#list,
    );
    this.#field = element("textarea", {
      id: "message",
      rows: "1",
      maxlength: "8000",
      placeholder: `Message to ${peer}`,
      "aria-label": `Message to ${peer}`,
      on: { keydown: (event: KeyboardEvent) => this.#key(event), input: () => this.#grow() },
    });
    const back = element(
      "button",
      { class: "back", type: "button", "aria-label": "Back to conversations", on: { click: () => actions.back() } },
      "‹",
    );
    const send = element("button", { class: "primary send" }, "Send");
    const submit = (event: Event): void => {
      event.preventDefault();
      this.#send();
    };
    this.root = element(
      "section",
      { class: "chat", "aria-label": `Chat with ${peer}` },
      element(
        "header",
        {},
        back,
        element("span", { class: `avatar ${tint(peer)}`, "aria-hidden": "true" }, initials(peer)),
        element("div", { class: "who" }, element("h2", {}, peer), this.#status),
      ),
      this.#scroller,
      element("form", { class: "compose", on: { submit } }, this.#field, send),
    );
  }

  /** Calls `changed` when there is something new to show, and loads the first messages; returns what stops it. */
  show(changed: () => void): () => void {
    void this.#timeline.loadOlder();
    return this.#timeline.subscribe(changed);
  }

  focus(): void {
    this.#field.focus();
  }

  /** The end is in view, so that what comes in is seen. */
  get atEnd(): boolean {
    return this.#atEnd;
  }

  update(peerReadSeq: number, status: string): void {
    const shown = this.#timeline.snapshot();
    const before = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    setText(this.#status, status);
    // Old messages that are loaded are no news to read out.
    this.#list.setAttribute("aria-busy", String(shown.loading));
    arrange(this.#list, this.#rows(shown, peerReadSeq));
    // What grows above must not move what is read; what comes below is followed only from the end.
    this.#scroller.scrollTop = this.#atEnd ? this.#scroller.scrollHeight : this.#scroller.scrollHeight - before;
    if (this.#shortOf(shown)) void this.#timeline.loadOlder();
  }

  #shortOf({ more, loading, error }: TimelineSnapshot): boolean {
    return more && !loading && error === undefined && this.#scroller.scrollHeight <= this.#scroller.clientHeight + NEAR;
  }

  #rows(shown: TimelineSnapshot, peerReadSeq: number): HTMLElement[] {
    const rows: HTMLElement[] = [this.#topRow(shown)];
    let day = "";
    for (const event of shown.events) {
      const next = dayOf(event.timeMs, Date.now());
      if (next !== day) rows.push(this.#dayRow(next));
      day = next;
      rows.push(this.#messageRow(event, peerReadSeq));
    }
    for (const item of shown.pending) rows.push(this.#pendingRow(item));
    return rows;
  }

  #topRow({ loading, more, error, events }: TimelineSnapshot): HTMLElement {
    const text = loading
      ? "Loading…"
      : error !== undefined
        ? `History could not be loaded: ${error.message}. `
        : more
          ? ""
          : events.length > 0
            ? "This is where it began."
            : "No messages yet. Say hello.";
    if (this.#top.dataset.text === text) return this.#top;
    this.#top.dataset.text = text;
    const again = element(
      "button",
      { type: "button", on: { click: () => void this.#timeline.loadOlder() } },
      "Try again",
    );
    this.#top.replaceChildren(text, ...(error === undefined ? [] : [again]));
    return this.#top;
  }

  #dayRow(day: string): HTMLElement {
    const row = this.#days.get(day) ?? element("li", { class: "day" }, element("span", {}, day));
    this.#days.set(day, row);
    return row;
  }

  #messageRow(event: ConversationEvent, peerReadSeq: number): HTMLElement {
    const own = event.sender === this.#self;
    const row = this.#messages.get(event.seq) ?? storedMessage(event, own);
    this.#messages.set(event.seq, row);
    if (own) markRead(row, event.seq <= peerReadSeq);
    return row;
  }

  /** Made anew only when it fails, so that the focus stays on its buttons. */
  #pendingRow(item: ShownPending): HTMLElement {
    const failed = item.error !== undefined;
    const known = this.#pending.get(item.clientMessageId);
    if (known !== undefined && known.failed === failed) return known.row;
    const row = pendingMessage(item, {
      retry: () => void this.#timeline.retry(item.clientMessageId).catch(() => {}),
      discard: () => this.#timeline.discard(item.clientMessageId),
    });
    this.#pending.set(item.clientMessageId, { row, failed });
    return row;
  }

  #scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (scrollTop < NEAR) void this.#timeline.loadOlder();
  }

  #key(event: KeyboardEvent): void {
    // While an input method composes, Enter chooses a word.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#send();
  }

  #send(): void {
    const text = this.#field.value.trim();
    if (text === "") return;
    this.#field.value = "";
    this.#grow();
    this.#atEnd = true;
    // The timeline shows what becomes of it.
    this.#client.send({ to: this.peer, text }).catch(() => {});
    this.focus();
  }

  #grow(): void {
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, 160)}px`;
  }
}
