// Randomness, behind a seam: ids and jitter.

/** Where random bytes come from. Message ids need bytes that do not repeat between devices. */
export interface RandomSource {
  bytes(count: number): Uint8Array;
}

declare const crypto: { getRandomValues?(bytes: Uint8Array): unknown } | undefined;

/** `crypto.getRandomValues` where the platform has it; else `Math.random`, which is enough for ids that need not be secret. */
export const platformRandom: RandomSource = {
  bytes(count) {
    const bytes = new Uint8Array(count);
    if (typeof crypto !== "undefined" && typeof crypto.getRandomValues === "function") {
      crypto.getRandomValues(bytes);
    } else {
      for (let i = 0; i < count; i += 1) bytes[i] = Math.floor(Math.random() * 256);
    }
    return bytes;
  },
};

/** A number from 0 up to, without, 1. */
export function fraction(random: RandomSource): number {
  return random.bytes(4).reduce((sum, byte) => (sum + byte) / 256, 0);
}

/** 128 random bits in hexadecimal. */
export function newId(random: RandomSource): string {
  let id = "";
  for (const byte of random.bytes(16)) id += (byte < 16 ? "0" : "") + byte.toString(16);
  return id;
}
