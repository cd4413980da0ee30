// Error codes and close codes: what each means for the caller. The table mirrors parlance/common/v1/error.proto.

/** What went wrong, by name. The first groups come from the cluster, the last one from this library. */
export type ErrorName =
  // mend the request
  | "malformed_frame"
  | "frame_too_large"
  | "invalid_argument"
  | "unsupported"
  | "payload_too_large"
  // log in, or ask for rights
  | "not_logged_in"
  | "already_logged_in"
  | "token_invalid"
  | "token_expired"
  | "app_unknown"
  | "permission_denied"
  | "kicked"
  | "app_disabled"
  // the state says no
  | "conflict"
  | "not_found"
  | "precondition_failed"
  // try again, with the same ids
  | "overloaded"
  | "unavailable"
  | "outcome_unknown"
  | "shutting_down"
  // tell the operator
  | "internal"
  // of this library
  | "closed"
  | "connection_lost"
  | "timeout"
  | "cancelled"
  | "queue_full"
  | "token_source"
  | "store"
  | "listener"
  | "user_changed"
  | "replaced"
  | "protocol";

const NAMES: Readonly<Record<number, ErrorName>> = {
  100: "malformed_frame",
  101: "frame_too_large",
  102: "invalid_argument",
  103: "unsupported",
  104: "payload_too_large",
  200: "not_logged_in",
  201: "already_logged_in",
  202: "token_invalid",
  203: "token_expired",
  204: "app_unknown",
  205: "permission_denied",
  206: "kicked",
  207: "app_disabled",
  300: "conflict",
  301: "not_found",
  302: "precondition_failed",
  400: "overloaded",
  401: "unavailable",
  402: "outcome_unknown",
  403: "shutting_down",
  500: "internal",
};

const RANGES: Readonly<Record<number, ErrorName>> = {
  1: "invalid_argument",
  2: "permission_denied",
  3: "precondition_failed",
  4: "unavailable",
};

/** The name of a code on the wire; one that is newer than this library gets its range's general name. */
export function errorName(code: number): ErrorName {
  return NAMES[code] ?? RANGES[Math.floor(code / 100)] ?? "internal";
}

/** Codes with which a gateway closes a connection, as in docs/protocol.md; `abnormal` stands for none. */
export const CloseCode = {
  normal: 1000,
  goingAway: 1001,
  abnormal: 1006,
  frameTooLarge: 1009,
  malformedFrame: 4000,
  tokenRefused: 4002,
  kicked: 4003,
  unsupported: 4004,
  replaced: 4005,
  appDisabled: 4006,
  tokenExpired: 4007,
  tooSlow: 4100,
  idle: 4101,
  loginTimeout: 4102,
  internal: 4103,
  overloaded: 4104,
} as const;

/** What a close code asks of the client. */
export type CloseAction = "stop" | "new_token" | "elsewhere" | "back_off";

/** Reads a close code by its range, so that codes of newer gateways are obeyed too. */
export function closeAction(code: number): CloseAction {
  if (code === CloseCode.tokenRefused || code === CloseCode.tokenExpired) return "new_token";
  if (code === CloseCode.goingAway) return "elsewhere";
  if (code === CloseCode.frameTooLarge || (code >= 4000 && code <= 4099)) return "stop";
  return "back_off";
}
