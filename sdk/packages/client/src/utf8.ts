// UTF-8 by hand, for engines without TextEncoder and TextDecoder.

const REPLACEMENT = 0xfffd;

/** Bytes of `text`; a lone surrogate becomes U+FFFD, as TextEncoder does it. */
export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length * 3);
  let at = 0;
  for (const character of text) {
    let point = character.codePointAt(0) ?? REPLACEMENT;
    if (point >= 0xd800 && point <= 0xdfff) point = REPLACEMENT;
    if (point < 0x80) {
      bytes[at++] = point;
    } else if (point < 0x800) {
      bytes[at++] = 0xc0 | (point >> 6);
      bytes[at++] = 0x80 | (point & 0x3f);
    } else if (point < 0x10000) {
      bytes[at++] = 0xe0 | (point >> 12);
      bytes[at++] = 0x80 | ((point >> 6) & 0x3f);
      bytes[at++] = 0x80 | (point & 0x3f);
    } else {
      bytes[at++] = 0xf0 | (point >> 18);
      bytes[at++] = 0x80 | ((point >> 12) & 0x3f);
      bytes[at++] = 0x80 | ((point >> 6) & 0x3f);
      bytes[at++] = 0x80 | (point & 0x3f);
    }
  }
  return bytes.slice(0, at);
}

/** Bytes that `encodeUtf8` would make. */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    bytes += unit < 0x80 ? 1 : unit < 0x800 || isPair(text, at) ? 2 : 3;
    if (isPair(text, at)) {
      bytes += 2;
      at += 1;
    }
  }
  return bytes;
}

/** The beginning of `text` that has no more than so many bytes in UTF-8. */
export function cutUtf8(text: string, bytesMax: number): string {
  let [end, bytes] = [0, 0];
  while (end < text.length) {
    const next = end + (isPair(text, end) ? 2 : 1);
    bytes += utf8Length(text.slice(end, next));
    if (bytes > bytesMax) break;
    end = next;
  }
  return text.slice(0, end);
}

/** Two units that are one code point begin here. */
function isPair(text: string, at: number): boolean {
  const [high, low] = [text.charCodeAt(at), text.charCodeAt(at + 1)];
  return high >= 0xd800 && high < 0xdc00 && low >= 0xdc00 && low < 0xe000;
}

/** Text of `bytes`; what is no UTF-8 becomes U+FFFD, or throws when `strict`. */
export function decodeUtf8(bytes: Uint8Array, strict = false): string {
  let text = "";
  let at = 0;
  while (at < bytes.length) {
    const { point, length } = decodePoint(bytes, at);
    if (point < 0 && strict) throw new RangeError("bytes are not UTF-8");
    text += String.fromCodePoint(point < 0 ? REPLACEMENT : point);
    at += length;
  }
  return text;
}

/** The code point at `at`, or -1 with the number of bytes that belong to the broken sequence. */
function decodePoint(bytes: Uint8Array, at: number): { point: number; length: number } {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return { point: first, length: 1 };
  const wanted = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return { point: -1, length: 1 };
  let point = first & (wanted === 4 ? 0x07 : wanted === 3 ? 0x0f : 0x1f);
  for (let i = 1; i < wanted; i += 1) {
    const byte = bytes[at + i] ?? 0;
    const { low, high } = i === 1 ? secondByteRange(first) : { low: 0x80, high: 0xbf };
    if (byte < low || byte > high) return { point: -1, length: i };
    point = (point << 6) | (byte & 0x3f);
  }
  return { point, length: wanted };
}

/** Keeps out over-long forms, surrogates and what lies above U+10FFFF. */
function secondByteRange(first: number): { low: number; high: number } {
  if (first === 0xe0) return { low: 0xa0, high: 0xbf };
  if (first === 0xed) return { low: 0x80, high: 0x9f };
  if (first === 0xf0) return { low: 0x90, high: 0xbf };
  if (first === 0xf4) return { low: 0x80, high: 0x8f };
  return { low: 0x80, high: 0xbf };
}

/** Order of two texts by their UTF-8 bytes, which is how the cluster orders ids. */
export function compareBytes(a: string, b: string): number {
  const left = encodeUtf8(a);
  const right = encodeUtf8(b);
  const shared = Math.min(left.length, right.length);
  for (let i = 0; i < shared; i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}
