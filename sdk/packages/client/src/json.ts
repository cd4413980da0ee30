// JSON as the app's own content.
import type { Content } from "./model.js";
import { decodeUtf8, encodeUtf8 } from "./utf8.js";

/** The bytes of a value, as `data` of custom content. Throws a TypeError on what JSON cannot say. */
export function jsonData(value: unknown): Uint8Array {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new TypeError("this value has no JSON form");
  return encodeUtf8(text);
}

/** What custom content says in JSON; undefined when it is no custom content or no JSON. Check its shape: others wrote it. */
export function jsonOf(content: Content): unknown {
  if (content.type !== "custom") return undefined;
  try {
    return JSON.parse(decodeUtf8(content.data, true)) as unknown;
  } catch {
    return undefined;
  }
}
