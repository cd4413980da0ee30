//! Who may be logged in, and for how long: what a token said at the login, and what operators have said since. Sessions that may
//! not stay are ended here, with the reason.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::client::v1::{TokenExpiringNotice, server_frame};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppId, UserId};
use tokio::time::Instant;

use super::{Api, now_ms};
use crate::cluster::Topology;
use crate::session::{Caller, CloseReason, Item, Push, Session, Standing};
use crate::token::{Grant, LEEWAY_MS};

/// Whether a user may be logged in by a token that was good when it was verified; the error is for the client. `since` is up to
/// which change of the apps a session was checked at its login, and none for a token that is used now.
///
/// A kick ends what was there when it arrived, by this gateway's own count. Only of tokens that come later the time counts: that
/// of the app's server against that of a node.
pub fn check(
    topology: &Topology,
    app: &AppId,
    user: &UserId,
    grant: &Grant,
    since: Option<u64>,
) -> Result<(), Error> {
    let known = topology.apps.app(app.as_str()).ok_or_else(|| {
        let message = format!("app {app:?} is unknown");
        Error::new(ErrorCode::AppUnknown, message)
    })?;
    if known.disabled {
        let message = format!("app {app:?} is disabled");
        return Err(Error::new(ErrorCode::AppDisabled, message));
    }
    if !known.secrets.iter().any(|s| s.id == grant.secret_id) {
        let message = "the secret that signed the token was retired";
        return Err(Error::new(ErrorCode::TokenInvalid, message));
    }
    let Some(kick) = topology.apps.kick(app, user) else {
        return Ok(());
    };
    let mut message = "this user was thrown out".to_owned();
    if !kick.reason.is_empty() {
        message = format!("{message}: {}", kick.reason);
    }
    let left = kick.until_ms.saturating_sub(now_ms());
    if left > 0 {
        return Err(Error {
            retry_after_ms: u32::try_from(left).unwrap_or(u32::MAX),
            ..Error::new(ErrorCode::Kicked, message)
        });
    }
    let was_here = since.is_some_and(|since| since < kick.change);
    if was_here || grant.issued_ms < kick.kicked_ms {
        let message = format!("{message}; a token that was signed since is needed");
        return Err(Error::new(ErrorCode::Kicked, message));
    }
    Ok(())
}

/// A session's first standing: checked up to a change of the apps.
pub fn of(grant: Grant, since: u64) -> Standing {
    Standing {
        ends: end_of(&grant),
        grant,
        since,
        warned: false,
        due: None,
    }
}

/// The session is logged in: it is watched from now on, and ended if its right to be here has gone meanwhile.
pub fn begin(api: &Api, session: &Arc<Session>, caller: &Caller) {
    schedule(api, session, &mut caller.standing.lock());
    look(api, session);
}

/// A new token takes the place of the last one.
pub fn renew(api: &Api, session: &Arc<Session>, caller: &Caller, grant: Grant) {
    let mut standing = caller.standing.lock();
    // The same end again is no news to the client.
    standing.warned &= grant.expires_ms == standing.grant.expires_ms;
    standing.ends = end_of(&grant);
    standing.grant = grant;
    schedule(api, session, &mut standing);
    drop(standing);
    look(api, session);
}

/// The session is gone.
pub fn forget(api: &Api, session: &Session, caller: &Caller) {
    if let Some(due) = caller.standing.lock().due.take() {
        api.deadlines.clear(session, due);
    }
}

/// Warns sessions before their token ends, and ends them with it.
pub async fn watch_tokens(api: Arc<Api>) {
    loop {
        for session in api.deadlines.next().await {
            token_is_due(&api, &session);
        }
    }
}

/// Ends the sessions that operators let stay no longer, as soon as the cluster says so.
pub async fn watch_operators(api: Arc<Api>) {
    let mut topology = api.router.topology();
    let mut seen = 0;
    loop {
        let changed = topology.borrow_and_update().apps.changed_since(seen);
        seen = changed.change;
        for app in &changed.apps {
            let sessions = api.registry.of_app(app);
            sessions.iter().for_each(|session| look(&api, session));
        }
        for (app, user) in &changed.users {
            let mut sessions = Vec::new();
            api.registry
                .for_each(app.as_str(), user.as_str(), |s| sessions.push(s.clone()));
            sessions.iter().for_each(|session| look(&api, session));
        }
        if topology.changed().await.is_err() {
            return;
        }
    }
}

/// Ends a session whose user may not be logged in any more.
fn look(api: &Api, session: &Session) {
    let Some(caller) = session.caller() else {
        return; // looked at again when its login is done
    };
    let (grant, since) = {
        let standing = caller.standing.lock();
        (standing.grant.clone(), standing.since)
    };
    let (app, user) = (&caller.user.app, &caller.user.id);
    let checked = api
        .router
        .with_topology(|topology| check(topology, app, user, &grant, Some(since)));
    if let Err(error) = checked {
        let reason = match error.code() {
            ErrorCode::Kicked => CloseReason::Kicked,
            ErrorCode::AppDisabled => CloseReason::AppDisabled,
            _ => CloseReason::TokenRefused,
        };
        end(session, error, reason);
    }
}

fn token_is_due(api: &Api, session: &Arc<Session>) {
    let Some(caller) = session.caller() else {
        return;
    };
    let mut standing = caller.standing.lock();
    let now = Instant::now();
    if standing.due.is_none_or(|due| due > now) {
        return; // renewed meanwhile
    }
    standing.due = None;
    if standing.ends <= now {
        drop(standing);
        let error = Error::new(ErrorCode::TokenExpired, "the token has expired");
        return end(session, error, CloseReason::TokenExpired);
    }
    if !std::mem::replace(&mut standing.warned, true) {
        let token_expires_ms = standing.grant.expires_ms;
        let left = token_expires_ms.saturating_sub(now_ms()).max(0);
        let notice = server_frame::Body::TokenExpiring(TokenExpiringNotice {
            token_expires_ms,
            within_ms: u32::try_from(left).unwrap_or(u32::MAX),
        });
        session
            .outbound
            .push(Item::Push(Arc::new(Push::notice(notice))));
    }
    schedule(api, session, &mut standing);
}

/// The next time to look at the session's token: to warn, or to end it.
fn schedule(api: &Api, session: &Arc<Session>, standing: &mut Standing) {
    if let Some(due) = standing.due.take() {
        api.deadlines.clear(session, due);
    }
    if session.outbound.closed().is_some() {
        return;
    }
    let warning = api.limits.token_warning();
    let at = if standing.warned || warning.is_zero() {
        standing.ends
    } else {
        let leeway = Duration::from_millis(LEEWAY_MS.unsigned_abs());
        let at = standing.ends.checked_sub(warning + leeway);
        at.unwrap_or_else(Instant::now)
    };
    standing.due = Some(at);
    api.deadlines.set(session, at);
}

/// When a session ends with its token, by the clock that nobody sets.
fn end_of(grant: &Grant) -> Instant {
    let end = grant.expires_ms.saturating_add(LEEWAY_MS);
    let left = u64::try_from(end.saturating_sub(now_ms())).unwrap_or(0);
    Instant::now() + Duration::from_millis(left)
}

fn end(session: &Session, error: Error, reason: CloseReason) {
    let said = Push::notice(server_frame::Body::Error(error));
    session.outbound.push(Item::Push(Arc::new(said)));
    session.outbound.close(reason);
}
