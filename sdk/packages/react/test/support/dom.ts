// A document for React, and components drawn into it. Imported before React.
import { JSDOM } from "jsdom";

const { window } = new JSDOM("<!doctype html><div id=root></div>");
const { document: page, navigator } = window;
for (const [name, value] of Object.entries({ window, document: page, navigator, IS_REACT_ACT_ENVIRONMENT: true })) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}

export const document = page;
