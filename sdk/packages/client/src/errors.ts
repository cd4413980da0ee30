// One class per situation. Every error carries `code`, says if a retry can help, and keeps its cause.
import { CloseCode, type ErrorName, errorName } from "./codes.js";
import type { Error as WireError } from "./gen/parlance/common/v1/error.js";
import { PROTOCOLS } from "./version.js";

/** Details that an error may carry. */
export interface ErrorDetails {
  readonly retryable?: boolean;
  readonly cause?: unknown;
  readonly field?: string;
  readonly retryAfterMs?: number;
}

/** What every failure of this library is. */
export class ParlanceError extends Error {
  readonly code: ErrorName;
  /** The same call, with the same ids, can succeed later. */
  readonly retryable: boolean;
  /** The request field that broke a rule; empty if none did. */
  readonly field: string;
  /** The least time to wait before a retry; 0 leaves it to the caller. */
  readonly retryAfterMs: number;
  // Declared here because engines before ES2022 do not take it in the constructor of Error.
  override readonly cause: unknown;

  constructor(code: ErrorName, message: string, details: ErrorDetails = {}) {
    super(message);
    // In ES5, as in the build for mini-programs, a call of Error makes a plain one.
    Object.setPrototypeOf(this, new.target.prototype);
    this.name = "ParlanceError";
    this.code = code;
    this.retryable = details.retryable ?? false;
    this.field = details.field ?? "";
    this.retryAfterMs = details.retryAfterMs ?? 0;
    this.cause = details.cause;
  }
}

/** The request breaks a rule: mend it. */
export class RequestError extends ParlanceError {
  override name = "RequestError";
}

/** The token was refused: `token_invalid`, `token_expired` or `app_unknown`. */
export class TokenError extends ParlanceError {
  override name = "TokenError";
}

/** This user may not do that, was thrown out (`kicked`), or is of an app that is disabled (`app_disabled`). */
export class PermissionError extends ParlanceError {
  override name = "PermissionError";
}

/** The same client message id was stored before with another payload. */
export class ConflictError extends ParlanceError {
  override name = "ConflictError";
}

/** No such conversation, or a state that forbids the request. */
export class StateError extends ParlanceError {
  override name = "StateError";
}

/** The cluster could not do it now. With `outcome_unknown` it may have been done: retry with the same id. */
export class UnavailableError extends ParlanceError {
  override name = "UnavailableError";
}

/** A bug or a failed disk on the other side. */
export class InternalError extends ParlanceError {
  override name = "InternalError";
}

/** No answer in time. A send that timed out may have been stored: retry with the same id. */
export class TimedOutError extends ParlanceError {
  override name = "TimedOutError";
  constructor(message: string, cause?: unknown) {
    super("timeout", message, { retryable: true, cause });
  }
}

/** A bounded queue of this library is full; nothing was sent. */
export class QueueFullError extends ParlanceError {
  override name = "QueueFullError";
  constructor(message: string) {
    super("queue_full", message, { retryable: true });
  }
}

/** The caller's signal said stop. A send may have been stored all the same. */
export class CancelledError extends ParlanceError {
  override name = "CancelledError";
  constructor(cause?: unknown) {
    super("cancelled", "cancelled by the caller", { cause });
  }
}

/** The client is closed, by `close()` or by what `cause` says, until `connect()` opens it again. */
export class ClosedError extends ParlanceError {
  override name = "ClosedError";
  constructor(cause?: unknown) {
    super("closed", "the client is closed", { cause });
  }
}

/** The connection broke, or could not be made. `closeCode` is 1006 when no gateway gave a code. */
export class ConnectionError extends ParlanceError {
  override name = "ConnectionError";
  readonly closeCode: number;
  constructor(message: string, closeCode: number = CloseCode.abnormal, cause?: unknown) {
    const retryAfterMs = cause instanceof ParlanceError ? cause.retryAfterMs : 0;
    super("connection_lost", message, { retryable: true, cause, retryAfterMs });
    this.closeCode = closeCode;
  }
}

/** This library and the gateway have no version of the protocol in common: the older of them must be replaced. */
export class VersionError extends ParlanceError {
  override name = "VersionError";
  constructor(offered: string, cause?: unknown) {
    const { min, max } = PROTOCOLS;
    super("unsupported", `this client speaks versions ${min} to ${max} of the protocol, ${offered}`, { cause });
  }
}

/** Newer sessions of this user took the place of this one: a user may have no more at the same time. */
export class ReplacedError extends ParlanceError {
  override name = "ReplacedError";
  constructor(cause?: unknown) {
    super("replaced", "newer sessions of this user took the place of this one", { cause });
  }
}

/** The other side sent what the protocol does not allow. */
export class ProtocolError extends ParlanceError {
  override name = "ProtocolError";
  constructor(message: string, cause?: unknown) {
    super("protocol", message, { cause });
  }
}

/** The app's own part failed: `getToken`, the store, or an event listener. */
export class AppError extends ParlanceError {
  override name = "AppError";
}

/** The error that a gateway's answer carries. */
export function fromWire(error: WireError): ParlanceError {
  const code = errorName(error.code);
  const retryable = error.code >= 400 && error.code < 500;
  const details = { retryable, field: error.field, retryAfterMs: error.retryAfterMs };
  const message = error.message === "" ? code : error.message;
  if (retryable) return new UnavailableError(code, message, details);
  if (error.code >= 500) return new InternalError(code, message, details);
  if (code === "conflict") return new ConflictError(code, message, details);
  if (error.code >= 300) return new StateError(code, message, details);
  if (error.code >= 202 && error.code <= 204) return new TokenError(code, message, details);
  if (error.code >= 200) return new PermissionError(code, message, details);
  return new RequestError(code, message, details);
}

/** The cluster refuses it for good: it is no better the next time. Whatever else fails may be mended meanwhile. */
export function isRefusal(error: unknown): error is ParlanceError {
  return error instanceof RequestError || error instanceof PermissionError || error instanceof StateError;
}

/** The error that a gateway answers a log-in with. */
export function loginError(error: WireError): ParlanceError {
  const refusal = fromWire(error);
  return refusal.code === "unsupported" ? new VersionError("the gateway none of them", refusal) : refusal;
}

/** Why a connection that a gateway closed for good is not made again by itself. */
export function finalError(error: ParlanceError): ParlanceError {
  const code = error instanceof ConnectionError ? error.closeCode : undefined;
  if (code === CloseCode.unsupported) return new VersionError("the gateway none of them", error);
  if (code === CloseCode.replaced) return new ReplacedError(error);
  if (code === CloseCode.kicked)
    return new PermissionError("kicked", "an operator threw this user out", { cause: error });
  if (code === CloseCode.appDisabled)
    return new PermissionError("app_disabled", "the app is disabled", { cause: error });
  return new ProtocolError(error.message, error);
}

/** Whatever was thrown, as one of ours. */
export function asError(code: ErrorName, message: string, cause: unknown): ParlanceError {
  return cause instanceof ParlanceError ? cause : new AppError(code, message, { cause });
}
