// Times and names for people.

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const SHORT_DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const DAY_MS = 86_400_000;

export function timeOf(ms: number): string {
  return TIME.format(ms);
}

/** Names the day that a message belongs to. */
export function dayOf(ms: number, now: number): string {
  const days = Math.round((midnight(now) - midnight(ms)) / DAY_MS);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return DAY.format(ms);
}

/** For the list: the time of today, else the day. */
export function whenOf(ms: number, now: number): string {
  return midnight(ms) === midnight(now) ? timeOf(ms) : SHORT_DAY.format(ms);
}

function midnight(ms: number): number {
  return new Date(ms).setHours(0, 0, 0, 0);
}

/** One or two letters for a user without a picture. */
export function initials(user: string): string {
  const parts = user.split(/[^\p{L}\p{N}]+/u).filter((part) => part !== "");
  const letters = parts.slice(0, 2).map((part) => [...part][0] ?? "");
  return letters.join("").toUpperCase() || "?";
}

/** A steady colour class, 0 to 5, for a user. */
export function tint(user: string): string {
  let sum = 0;
  for (const character of user) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 997;
  return `tint-${sum % 6}`;
}
