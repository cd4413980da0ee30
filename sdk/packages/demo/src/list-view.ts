// The conversation list, and the field to start a chat.
import type { Conversation } from "@parlance/client";
import { arrange, element, setText } from "./dom.js";
import { initials, tint, whenOf } from "./format.js";
import { textOf } from "./message-view.js";

/** What the list asks of the page. */
export interface ListActions {
  open(peer: string): void;
  logOut(): void;
}

interface Row {
  readonly root: HTMLElement;
  readonly button: HTMLElement;
  readonly when: HTMLElement;
  readonly preview: HTMLElement;
  readonly badge: HTMLElement;
}

export class ListView {
  readonly root: HTMLElement;
  readonly #self: string;
  readonly #actions: ListActions;
  readonly #rows = new Map<string, Row>();
  readonly #list = element("ul", { class: "conversations" });
  readonly #empty = element("p", { class: "empty" }, "No conversations yet. Write to somebody by their user id.");
  readonly #state = element("span", { class: "state" });
  readonly #hint = element("p", { class: "hint", role: "alert" });

  constructor(self: string, actions: ListActions) {
    this.#self = self;
    this.#actions = actions;
    const peer = element("input", {
      id: "peer",
      type: "text",
      maxlength: "64",
      placeholder: "User id",
      autocomplete: "off",
      autocapitalize: "none",
      "aria-label": "User id of somebody to chat with",
    });
    const submit = (event: Event): void => {
      event.preventDefault();
      const user = peer.value.trim();
      setText(this.#hint, user === self ? "That is you: choose somebody else." : "");
      if (user === "" || user === self) return;
      peer.value = "";
      actions.open(user);
    };
    this.root = element(
      "nav",
      { class: "list", "aria-label": "Conversations" },
      element(
        "header",
        {},
        element("span", { class: `avatar ${tint(self)}`, "aria-hidden": "true" }, initials(self)),
        element("div", { class: "who" }, element("h1", {}, self), this.#state),
        element("button", { class: "quiet", type: "button", on: { click: () => actions.logOut() } }, "Log out"),
      ),
      element("form", { class: "start", on: { submit } }, peer, element("button", { class: "primary" }, "Chat")),
      this.#hint,
      this.#list,
      this.#empty,
    );
  }

  update(conversations: readonly Conversation[], open: string | undefined, state: string): void {
    setText(this.#state, state);
    this.#state.dataset.state = state;
    arrange(
      this.#list,
      conversations.map((conversation) => this.#row(conversation, open)),
    );
    this.#empty.hidden = conversations.length > 0;
  }

  #row(conversation: Conversation, open: string | undefined): HTMLElement {
    const { peer, unreadCount, lastEvent } = conversation;
    const row = this.#rows.get(peer) ?? this.#make(peer);
    this.#rows.set(peer, row);
    const own = lastEvent?.sender === this.#self ? "You: " : "";
    setText(row.preview, lastEvent === undefined ? "" : own + textOf(lastEvent));
    setText(row.when, lastEvent === undefined ? "" : whenOf(lastEvent.timeMs, Date.now()));
    setText(row.badge, unreadCount > 99 ? "99+" : String(unreadCount));
    row.badge.hidden = unreadCount === 0;
    row.badge.setAttribute("aria-label", `${unreadCount} unread`);
    if (peer === open) row.button.setAttribute("aria-current", "true");
    else row.button.removeAttribute("aria-current");
    return row.root;
  }

  #make(peer: string): Row {
    const when = element("span", { class: "when" });
    const preview = element("span", { class: "preview" });
    const badge = element("span", { class: "badge", role: "img" });
    const button = element(
      "button",
      { type: "button", on: { click: () => this.#actions.open(peer) } },
      element("span", { class: `avatar ${tint(peer)}`, "aria-hidden": "true" }, initials(peer)),
      element("span", { class: "name" }, peer),
      when,
      preview,
      badge,
    );
    return { root: element("li", { "data-peer": peer }, button), button, when, preview, badge };
  }
}
