// Rows as text that shows when it was damaged: a sum over what follows it.

/** Seals a row. */
export function seal(value: unknown): string {
  const text = JSON.stringify(value);
  return `${sumOf(text).toString(36)} ${text}`;
}

/** What a row says; undefined when it is not what was written. */
export function unseal(row: string): unknown {
  const space = row.indexOf(" ");
  const text = row.slice(space + 1);
  if (space < 0 || row.slice(0, space) !== sumOf(text).toString(36)) return undefined;
  return JSON.parse(text) as unknown;
}

/** FNV-1a over UTF-16 units, 32 bits: finds accidents, not attacks. */
export function sumOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}

/** An id as a part of a key, without what separates parts. */
export function idPart(id: string): string {
  return encodeURIComponent(id);
}

/** The id that stands in a key; undefined if it is none. */
export function idOf(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}
