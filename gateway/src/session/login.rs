//! From a token to a session that receives its user's events: verify, register, subscribe, answer. The session is
//! registered first, so that no event falls between the subscription and the answer.

use std::sync::Arc;

use parlance_proto::client::v1::{Limits, LoginRequest, LoginResponse, ServerFrame, server_frame};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::limits::{CONTENT_BYTES_MAX, HISTORY_EVENTS_MAX};
use tokio::time::timeout;

use super::{Session, User};
use crate::context::{Context, now_ms};
use crate::metrics::LOGINS;
use crate::ws::close::Close;
use crate::ws::codec::encode_server_frame;

/// Bytes of the free texts in a login.
const LABEL_BYTES_MAX: usize = 64;

/// Logs the connection in, or answers the error and closes it.
pub async fn run(
    context: &Context,
    session: &Arc<Session>,
    request_id: u64,
    request: LoginRequest,
) {
    let result = login(context, session, request).await;
    let code = result
        .as_ref()
        .err()
        .map_or_else(|| "ok".to_owned(), |e| e.code().name());
    metrics::counter!(LOGINS, "code" => code).increment(1);
    crate::request::count("login", result.as_ref().err());
    match result {
        Ok(response) => {
            let frame = ServerFrame {
                request_id,
                body: Some(server_frame::Body::Login(response)),
            };
            session
                .outbound
                .push_first(encode_server_frame(session.format, &frame));
        }
        Err(error) => {
            tracing::debug!(session = %session.id, %error, "login refused");
            let close = match error.code() {
                ErrorCode::AlreadyLoggedIn | ErrorCode::InvalidArgument => None,
                ErrorCode::TokenInvalid | ErrorCode::TokenExpired | ErrorCode::AppUnknown => {
                    Some(Close::TokenRefused)
                }
                ErrorCode::ShuttingDown => Some(Close::GoingAway),
                _ => Some(Close::Internal),
            };
            session.answer(request_id, server_frame::Body::Error(error));
            if let Some(close) = close {
                session.outbound.close(close);
            }
        }
    }
}

/// The connection ended: its user's last one ends the subscription.
pub fn logout(context: &Context, session: &Session) {
    if let Some(user) = session.user() {
        context.registry.remove(user, session);
        context.topics.release(context.home_shard(user), user);
    }
}

async fn login(
    context: &Context,
    session: &Arc<Session>,
    request: LoginRequest,
) -> Result<LoginResponse, Error> {
    if session.user().is_some() {
        return Err(Error::new(
            ErrorCode::AlreadyLoggedIn,
            "this connection is logged in",
        ));
    }
    if context.draining() {
        return Err(Error::new(
            ErrorCode::ShuttingDown,
            "this gateway is stopping, connect to another",
        ));
    }
    for (field, text) in [
        ("login.platform", &request.platform),
        ("login.device_id", &request.device_id),
        ("login.client_version", &request.client_version),
    ] {
        if text.len() > LABEL_BYTES_MAX {
            return Err(Error::invalid(
                field,
                format!("{} bytes, {LABEL_BYTES_MAX} are allowed", text.len()),
            ));
        }
    }
    if context.router.with_view(|v| v.shard_count) == 0 {
        return Err(Error::new(
            ErrorCode::Unavailable,
            "this gateway does not know its cluster yet",
        ));
    }
    let secrets = |app: &str| context.router.with_view(|v| v.apps.get(app).cloned());
    let claims = context.verifier.verify(&request.token, &secrets)?;
    let user = User {
        app_id: claims.app_id.into(),
        user_id: claims.user_id.into(),
    };
    subscribe(context, session, &user).await?;
    session.set_user(user.clone());
    tracing::debug!(session = %session.id, app = %user.app_id, user = %user.user_id, "logged in");
    let limits = &context.config.limits;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(LoginResponse {
        session_id: session.id.to_string(),
        app_id: user.app_id.to_string(),
        user_id: user.user_id.to_string(),
        server_time_ms: now_ms(),
        limits: Some(Limits {
            frame_bytes_max: count(limits.frame_bytes_max),
            content_bytes_max: count(CONTENT_BYTES_MAX),
            requests_in_flight_max: limits.requests_in_flight_max,
            history_events_max: HISTORY_EVENTS_MAX,
            idle_timeout_ms: u32::try_from(limits.idle_timeout_ms).unwrap_or(u32::MAX),
        }),
    })
}

/// Registers the session and waits until the home shard's leader pushes to us.
async fn subscribe(context: &Context, session: &Arc<Session>, user: &User) -> Result<(), Error> {
    let shard = context.home_shard(user);
    context.registry.add(user, session);
    let subscribed = match context.topics.acquire(shard, user) {
        Some(subscribed) => timeout(context.config.limits.request_timeout(), subscribed).await,
        None => {
            context.registry.remove(user, session);
            return Err(Error::new(
                ErrorCode::Unavailable,
                "this gateway does not know its cluster yet",
            ));
        }
    };
    if !matches!(subscribed, Ok(Ok(()))) {
        context.registry.remove(user, session);
        context.topics.release(shard, user);
        return Err(Error::new(
            ErrorCode::Unavailable,
            "the user's home shard did not answer in time",
        ));
    }
    Ok(())
}
