// Trouble from a seed: the same seed makes the same trouble.
import { ErrorCode } from "../../src/gen/parlance/common/v1/error.js";
import type { FakeCluster } from "./fake-cluster.js";

/** Numbers from 0 up to 1, the same for the same seed. */
export function numbers(seed: number): () => number {
  let state = seed * 2_654_435_761;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + 0x9e3779b9) | 0;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
}

const RETRYABLE = [
  ErrorCode.ERROR_CODE_OVERLOADED,
  ErrorCode.ERROR_CODE_UNAVAILABLE,
  ErrorCode.ERROR_CODE_OUTCOME_UNKNOWN,
  ErrorCode.ERROR_CODE_SHUTTING_DOWN,
];

export function pick<T>(random: () => number, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)] as T;
}

/** Makes the cluster refuse, forget to answer, drop pushes and repeat them, and take its time until lists know. */
export function disturb(cluster: FakeCluster, random: () => number): () => void {
  const handle = cluster.handle.bind(cluster);
  cluster.handle = (session, body) => {
    if (body.$case === "login") return handle(session, body);
    const fate = random();
    if (fate < 0.06) return cluster.refuse(pick(random, RETRYABLE), 50);
    const answer = handle(session, body);
    // Done, but nobody is told: as when the connection breaks on the way back.
    if (fate < 0.1) return cluster.refuse(ErrorCode.ERROR_CODE_OUTCOME_UNKNOWN);
    return answer;
  };
  cluster.pushes = (event, session) => {
    const fate = random();
    if (fate < 0.1) session.push({ $case: "event", value: event });
    return fate > 0.25 || fate < 0.1;
  };
  const held: (() => void)[] = [];
  cluster.relay = (deliver) => {
    held.push(deliver);
    while (held.length > 0 && random() < 0.7) held.shift()?.();
  };
  return () => {
    for (const deliver of held.splice(0)) deliver();
    cluster.relay = (deliver) => deliver();
    cluster.handle = handle;
    cluster.pushes = () => true;
  };
}
