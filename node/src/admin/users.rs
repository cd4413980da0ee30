//! Users: thrown out by an operator.

use parlance_proto::admin::v1::{KickUserRequest, KickUserResponse};
use parlance_proto::common::v1::Error;
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::store::v1::{Kick, KickUser, meta_command};
use parlance_proto::visible::hidden_in;

use crate::cluster::Runtime;

/// Bytes of what the user is told.
const REASON_BYTES_MAX: usize = 128;
/// The longest time that a user can be kept out.
const FOR_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Ends a user's sessions at every gateway, and what tokens are there for more.
pub(super) async fn kick(
    runtime: &Runtime,
    ask: KickUserRequest,
) -> Result<KickUserResponse, Error> {
    AppId::new(&ask.app_id).map_err(|e| Error::invalid("app_id", e.to_string()))?;
    UserId::new(&ask.user_id).map_err(|e| Error::invalid("user_id", e.to_string()))?;
    if ask.reason.len() > REASON_BYTES_MAX || hidden_in(&ask.reason).is_some() {
        let message = format!("1 line of at most {REASON_BYTES_MAX} bytes is allowed");
        return Err(Error::invalid("reason", message));
    }
    let for_ms = ask.for_ms.unwrap_or(0);
    if for_ms > FOR_MS_MAX {
        let message = format!("{for_ms} ms: at most a year is allowed");
        return Err(Error::invalid("for_ms", message));
    }
    let kicked_ms = runtime.environment().now_ms();
    let until_ms = match i64::try_from(for_ms) {
        Ok(0) | Err(_) => 0,
        Ok(for_ms) => kicked_ms.saturating_add(for_ms),
    };
    let of = (ask.app_id.clone(), ask.user_id.clone());
    let kick = Kick {
        app_id: ask.app_id,
        user_id: ask.user_id,
        kicked_ms,
        until_ms,
        reason: ask.reason,
    };
    let body = meta_command::Body::KickUser(KickUser {
        kick: Some(kick),
        keeps_until: ask.for_ms.is_none(),
    });
    runtime.meta_client().propose(body).await?;
    // What came of it depends on the kick before.
    let state = runtime.view().state();
    let known = state.kicks().get(&of);
    Ok(KickUserResponse {
        kicked_ms: known.map_or(kicked_ms, |kick| kick.kicked_ms.max(kicked_ms)),
        until_ms: known.map_or(until_ms, |kick| kick.until_ms),
    })
}
