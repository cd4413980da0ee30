//! The login of a native client: what both ends speak, who the client is, and what is told of the limits.

use std::collections::HashMap;
use std::sync::Arc;

use parlance_proto::client::v1::{Limits, LoginRequest, LoginResponse};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::limits::{CONTENT_BYTES_MAX, HISTORY_EVENTS_MAX};
use parlance_proto::version::{CLIENT_PROTOCOLS, common, mismatch};
use parlance_proto::visible::hidden_in;

use crate::api::{Api, now_ms, sessions};
use crate::session::{Agreed, Caller, CloseReason, Device, Session};
use crate::token::Credentials;

/// Bytes of the free texts in a login.
const LABEL_BYTES_MAX: usize = 64;
/// Names and values of `extra`, and the capabilities, together. With the token it fits into what may come before a login.
const EXTRA_BYTES_MAX: usize = 3 * 1024;
/// What this gateway can do beyond the protocol's version, by name.
const CAPABILITIES: &[&str] = &["ordered_sends"];

/// Logs the session in.
pub async fn run(
    api: &Api,
    session: &Arc<Session>,
    request: LoginRequest,
) -> Result<LoginResponse, Error> {
    check(&request)?;
    let protocol = common(CLIENT_PROTOCOLS, request.protocol).ok_or_else(|| {
        let why = mismatch("protocol", CLIENT_PROTOCOLS, request.protocol);
        Error {
            field: "login.protocol".into(),
            ..Error::new(ErrorCode::Unsupported, why)
        }
    })?;
    let can = |name: &&str| request.capabilities.iter().any(|c| c == name);
    let agreed = Agreed {
        protocol,
        capabilities: CAPABILITIES.iter().copied().filter(can).collect(),
    };
    let credentials = Credentials {
        app: request.app_id,
        user: request.user_id,
        token: request.token,
        extra: request.extra,
    };
    let device = Device {
        platform: request.platform,
        device_id: request.device_id,
        client_version: request.client_version,
    };
    let caller = sessions::log_in(api, session, &credentials, agreed, device).await?;
    Ok(response(api, caller))
}

/// How a refused login ends the connection, if it does.
pub fn close_reason(error: &Error) -> Option<CloseReason> {
    match error.code() {
        ErrorCode::AlreadyLoggedIn | ErrorCode::InvalidArgument => None,
        ErrorCode::TokenInvalid | ErrorCode::TokenExpired | ErrorCode::AppUnknown => {
            Some(CloseReason::TokenRefused)
        }
        ErrorCode::Kicked => Some(CloseReason::Kicked),
        ErrorCode::AppDisabled => Some(CloseReason::AppDisabled),
        ErrorCode::Unsupported => Some(CloseReason::Unsupported),
        ErrorCode::ShuttingDown => Some(CloseReason::GoingAway),
        ErrorCode::Overloaded => Some(CloseReason::Overloaded),
        _ => Some(CloseReason::Internal),
    }
}

fn check(request: &LoginRequest) -> Result<(), Error> {
    for (field, text) in [
        ("login.platform", &request.platform),
        ("login.device_id", &request.device_id),
        ("login.client_version", &request.client_version),
        ("login.app_id", &request.app_id),
        ("login.user_id", &request.user_id),
    ] {
        if text.len() > LABEL_BYTES_MAX {
            let rule = format!("{} bytes, {LABEL_BYTES_MAX} are allowed", text.len());
            return Err(Error::invalid(field, rule));
        }
        if let Some(hidden) = hidden_in(text) {
            let code = u32::from(hidden);
            let rule = format!("U+{code:04X} is a control character or invisible");
            return Err(Error::invalid(field, rule));
        }
    }
    let capabilities: usize = request.capabilities.iter().map(String::len).sum();
    check_extra("login.extra", &request.extra, capabilities)
}

/// What a token's format needs beside it, with what else counts.
pub fn check_extra(
    field: &str,
    extra: &HashMap<String, String>,
    others: usize,
) -> Result<(), Error> {
    let bytes: usize = extra.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes + others > EXTRA_BYTES_MAX {
        let rule = format!(
            "{} bytes with the capabilities, {EXTRA_BYTES_MAX} are allowed",
            bytes + others
        );
        return Err(Error::invalid(field, rule));
    }
    Ok(())
}

fn response(api: &Api, caller: &Caller) -> LoginResponse {
    let limits = &api.limits;
    let capabilities = caller.agreed.capabilities.iter().copied();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    LoginResponse {
        session_id: caller.session.to_string(),
        app_id: (&caller.user.app).into(),
        user_id: (&caller.user.id).into(),
        server_time_ms: now_ms(),
        limits: Some(Limits {
            frame_bytes_max: count(limits.frame_bytes_max),
            content_bytes_max: count(CONTENT_BYTES_MAX),
            requests_in_flight_max: limits.requests_in_flight_max,
            history_events_max: HISTORY_EVENTS_MAX,
            idle_timeout_ms: u32::try_from(limits.idle_timeout_ms).unwrap_or(u32::MAX),
        }),
        protocol: caller.agreed.protocol,
        capabilities: capabilities.map(str::to_owned).collect(),
        token_expires_ms: caller.standing.lock().grant.expires_ms,
    }
}
