// A logged-in page: one client, the list, and the open chat.
import { IndexedDbStore, MemoryStore, ParlanceClient, type StateChange, TokenError } from "@parlance/client";
import { ChatView } from "./chat-view.js";
import { element, setText } from "./dom.js";
import { ListView } from "./list-view.js";
import type { LogIn } from "./login.js";

const SEND_TIMEOUT_MS = 20_000;
const STATES: Readonly<Record<StateChange["state"], string>> = {
  idle: "Offline",
  connecting: "Connecting…",
  online: "Online",
  waiting: "Reconnecting…",
  closed: "Disconnected",
};

export class Page {
  readonly root: HTMLElement;
  readonly #client: ParlanceClient;
  readonly #logIn: LogIn;
  readonly #banner = element("p", { class: "banner", role: "status" });
  readonly #placeholder = element(
    "section",
    { class: "nothing" },
    element("p", {}, "Choose a conversation, or write to somebody."),
  );
  readonly #main = element("div", { class: "panes" });
  readonly #ended: (problem: string) => void;
  #list: ListView | undefined;
  #chat: { readonly view: ChatView; readonly stop: () => void } | undefined;
  #drawing = false;
  #wasOnline = false;
  #retryAt = 0;
  #marked = new Map<string, number>();

  constructor(logIn: LogIn, ended: (problem: string) => void) {
    this.#logIn = logIn;
    this.#ended = ended;
    this.root = element("div", { class: "page" }, this.#banner, this.#main);
    this.#client = new ParlanceClient({
      gateways: logIn.gateways,
      firstGateway: "first",
      getToken: () => logIn.token,
      platform: "web",
      sendTimeoutMs: SEND_TIMEOUT_MS,
      store: typeof indexedDB === "undefined" ? new MemoryStore() : new IndexedDbStore(),
      ...(logIn.app === "" ? {} : { owner: { appId: logIn.app, userId: logIn.user } }),
    });
    this.#listen();
    if (this.#client.self !== undefined) this.#start(this.#client.self.userId);
    this.#client.connect().then(
      (session) => {
        if (this.#list === undefined) this.#start(session.userId);
      },
      // The state event tells why.
      () => {},
    );
    this.#draw();
  }

  close(): void {
    removeEventListener("online", this.#wake);
    document.removeEventListener("visibilitychange", this.#wake);
    this.#client.close();
  }

  readonly #wake = (): void => {
    this.#client.reconnectNow();
    this.#draw();
  };

  #listen(): void {
    const client = this.#client;
    client.watchConversations(() => this.#draw());
    client.on("state", (change) => this.#stateChanged(change));
    addEventListener("online", this.#wake);
    document.addEventListener("visibilitychange", this.#wake);
  }

  #stateChanged(change: StateChange): void {
    this.#retryAt = change.state === "waiting" ? Date.now() + (change.retryInMs ?? 0) : 0;
    if (change.state === "online") this.#wasOnline = true;
    // The page has no other token to offer.
    if (change.error !== undefined && (change.state === "closed" || change.error instanceof TokenError))
      return this.#ended(`You were logged out: ${change.error.message}`);
    this.#draw();
  }

  #start(self: string): void {
    document.title = `${self} · Parlance`;
    this.#list = new ListView(self, { open: (peer) => this.#open(peer), logOut: () => this.#logOut() });
    this.#main.replaceChildren(this.#list.root, this.#placeholder);
    this.#draw();
  }

  /** Somebody else may sit here next. */
  #logOut(): void {
    this.#client.forget().catch(() => {});
    this.#ended("");
  }

  #open(peer: string): void {
    const self = this.#client.self?.userId ?? this.#logIn.user;
    const view = new ChatView(this.#client, peer, self, { back: () => this.#back() });
    this.#chat?.stop();
    this.#chat = { view, stop: view.show(() => this.#draw()) };
    this.#main.lastElementChild?.replaceWith(view.root);
    this.root.classList.add("chatting");
    this.#draw();
    view.focus();
  }

  #back(): void {
    const peer = this.#chat?.view.peer;
    this.#chat?.stop();
    this.#chat?.view.root.replaceWith(this.#placeholder);
    this.#chat = undefined;
    this.root.classList.remove("chatting");
    this.#draw();
    for (const row of this.#main.querySelectorAll<HTMLElement>("[data-peer]")) {
      if (row.dataset.peer === peer) row.querySelector("button")?.focus();
    }
  }

  /** Many changes, one drawing. */
  #draw(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    queueMicrotask(() => {
      this.#drawing = false;
      this.#drawNow();
    });
  }

  #drawNow(): void {
    const client = this.#client;
    const state = STATES[client.state];
    setText(this.#banner, this.#bannerText());
    this.#banner.hidden = this.#banner.textContent === "";
    const conversations = client.conversations();
    this.#list?.update(conversations, this.#chat?.view.peer, state);
    const unread = conversations.reduce((sum, conversation) => sum + conversation.unreadCount, 0);
    const self = client.self?.userId ?? this.#logIn.user;
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${self} · Parlance`;
    if (this.#chat === undefined) return;
    const { view } = this.#chat;
    const conversation = conversations.find((other) => other.peer === view.peer);
    view.update(conversation?.peerReadSeq ?? 0, client.state === "online" ? "" : state);
    if (conversation !== undefined && view.atEnd)
      this.#markRead(conversation.conversationId, conversation.headSeq, conversation.readSeq);
  }

  /** What is on the screen of somebody who looks is read. */
  #markRead(conversationId: string, headSeq: number, readSeq: number): void {
    const marked = Math.max(readSeq, this.#marked.get(conversationId) ?? 0);
    if (headSeq <= marked || document.visibilityState !== "visible") return;
    this.#marked.set(conversationId, headSeq);
    this.#client.markRead({ conversationId, seq: headSeq }).catch(() => this.#marked.delete(conversationId));
  }

  #bannerText(): string {
    if (this.#client.state === "online") return "";
    if (!this.#wasOnline && this.#client.state === "connecting") return "Connecting…";
    const seconds = Math.ceil((this.#retryAt - Date.now()) / 1_000);
    return seconds > 1 ? "Connection lost. Reconnecting in a few seconds…" : "Connection lost. Reconnecting…";
  }
}
