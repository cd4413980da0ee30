// Who logs in, and where: from the address's fragment, from this tab's memory, or from the form.
import { element } from "./dom.js";

/** Enough to connect. */
export interface LogIn {
  /** What the address says; the token decides. */
  readonly user: string;
  /** The app that the token names; empty if it cannot be read. */
  readonly app: string;
  readonly token: string;
  readonly gateways: readonly string[];
}

const REMEMBERED = "parlance.log-in";

/** `#user=alice&token=…&gateways=ws://a/ws,ws://b/ws`; without gateways the one that served the page. */
export function fromFragment(fragment: string, location: { protocol: string; host: string }): LogIn | undefined {
  const values = new URLSearchParams(fragment.replace(/^#/, ""));
  const token = values.get("token")?.trim() ?? "";
  if (token === "") return undefined;
  const given = (values.get("gateways") ?? "").split(",").filter((url) => /^wss?:\/\//.test(url));
  const own = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
  const { sub, app } = claimsOf(token);
  return { user: values.get("user") ?? sub, app, token, gateways: given.length > 0 ? given : [own] };
}

/** What a token names, unchecked: only for showing something before the log-in. */
export function claimsOf(token: string): { readonly sub: string; readonly app: string } {
  try {
    const middle = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const claims: unknown = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(middle), (c) => c.charCodeAt(0))));
    const { sub, app } = claims as { readonly sub?: unknown; readonly app?: unknown };
    return { sub: typeof sub === "string" ? sub : "", app: typeof app === "string" ? app : "" };
  } catch {
    return { sub: "", app: "" };
  }
}

/**
 * The log-in of this tab, if there is one. One in the address is remembered by the tab and taken out of the address, where
 * whoever looks at the screen, a bookmark or the tab's history would have the token.
 */
export function currentLogIn(): LogIn | undefined {
  const given = fromFragment(location.hash, location);
  if (given === undefined) return fromFragment(sessionStorage.getItem(REMEMBERED) ?? "", location);
  sessionStorage.setItem(REMEMBERED, location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  return given;
}

export function forgetLogIn(): void {
  sessionStorage.removeItem(REMEMBERED);
  history.replaceState(null, "", location.pathname);
}

/** The form; `done` gets a log-in whose token this tab remembers. */
export function logInForm(problem: string, done: (logIn: LogIn) => void): HTMLElement {
  const token = element("textarea", {
    id: "token",
    rows: "4",
    required: true,
    spellcheck: "false",
    autocomplete: "off",
  });
  const submit = (event: Event): void => {
    event.preventDefault();
    const fragment = new URLSearchParams({ token: token.value.trim() }).toString();
    const logIn = fromFragment(fragment, location);
    if (logIn === undefined) return;
    sessionStorage.setItem(REMEMBERED, fragment);
    done(logIn);
  };
  const command = element("code", {}, "parlance token issue --app demo --user alice");
  return element(
    "main",
    { class: "log-in" },
    element(
      "form",
      { on: { submit } },
      element("h1", {}, "Parlance"),
      problem !== "" && element("p", { class: "problem", role: "alert" }, problem),
      element("label", { for: "token" }, "Token"),
      token,
      element("p", { class: "hint" }, "Make one with ", command),
      element("button", { class: "primary" }, "Log in"),
    ),
  );
}
