// A few lines instead of a framework: elements with properties and children.

type Child = Node | string | undefined | false;

/** Attributes, and listeners under `on`. */
export interface Properties {
  readonly [attribute: string]: string | boolean | undefined | Listeners;
}
type Listeners = { readonly [event: string]: (event: never) => void };

export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "object") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener as EventListener);
    } else if (value === true) made.setAttribute(key, "");
    else if (typeof value === "string") made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== false));
  return made;
}

/** Makes `parent` have exactly these children, moving and removing no more than needed: focus and scroll stay. */
export function arrange(parent: Element, children: readonly Element[]): void {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}

export function setText(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}
