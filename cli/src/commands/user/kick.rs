//! `parlance user kick`: a user's sessions end, at every gateway.

use std::time::Duration;

use parlance_proto::admin::v1::KickUserRequest;
use parlance_proto::ids::{AppId, UserId};
use serde::Serialize;

use crate::admin::Admin;
use crate::commands::Session;
use crate::output::time_text;

#[derive(Serialize)]
struct Kicked {
    app_id: String,
    user_id: String,
    /// ms since 1970 UTC; tokens that were signed before are refused.
    kicked_ms: i64,
    /// ms since 1970 UTC; 0: a new token is enough.
    until_ms: i64,
}

pub(super) async fn run(
    session: &Session,
    app_id: AppId,
    user_id: UserId,
    lasts: Option<Duration>,
    reason: String,
) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let request = KickUserRequest {
        app_id: (&app_id).into(),
        user_id: (&user_id).into(),
        for_ms: lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
        reason,
    };
    let answer = admin.api.kick_user(request).await;
    let answer = answer
        .map_err(|status| admin.failed(&format!("kick user {user_id:?}"), &status))?
        .into_inner();
    let kicked = Kicked {
        app_id: (&app_id).into(),
        user_id: (&user_id).into(),
        kicked_ms: answer.kicked_ms,
        until_ms: answer.until_ms,
    };
    session.output.print(&kicked, |_, kicked| text(kicked))
}

fn text(kicked: &Kicked) -> String {
    let user = &kicked.user_id;
    let since = time_text(kicked.kicked_ms);
    if kicked.until_ms == 0 {
        format!("{user} is thrown out; a token signed after {since} lets them in again")
    } else {
        let until = time_text(kicked.until_ms);
        format!(
            "{user} is thrown out and stays out until {until}, and then needs a token signed after {since}"
        )
    }
}
