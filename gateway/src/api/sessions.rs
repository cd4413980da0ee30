//! Logging in, staying in, and out. A session is registered before it is subscribed, so that no event falls between the subscription
//! and the answer.

use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::common::v1::{Error, ErrorCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Api, now_ms, standing};
use crate::bounds::Refusal;
use crate::metrics::{LOGINS, refused};
use crate::session::{Agreed, Caller, Chains, CloseReason, Device, InFlight, Session, User};
use crate::token::{self, Credentials, Identity};

/// Verifies the credentials and lets the user's events come to this session.
pub async fn log_in<'s>(
    api: &Api,
    session: &'s Arc<Session>,
    credentials: &Credentials,
    agreed: Agreed,
    device: Device,
) -> Result<&'s Arc<Caller>, Error> {
    let result = admit(api, session, credentials, agreed, device).await;
    let code = result
        .as_ref()
        .err()
        .map_or_else(|| "ok".to_owned(), |e| e.code().name());
    metrics::counter!(LOGINS, "code" => code).increment(1);
    result
}

/// Puts a new token of the same user in the place of the session's last one; answers when it ends, in ms since 1970 UTC.
///
/// # Errors
/// It is not valid, or for another user. The session stays as it was.
pub async fn renew(
    api: &Api,
    session: &Arc<Session>,
    caller: &Caller,
    credentials: Credentials,
) -> Result<i64, Error> {
    let credentials = Credentials {
        app: caller.app_called.clone(),
        user: (&caller.user.id).into(),
        ..credentials
    };
    let identity = authenticate(api, &credentials).await;
    let (identity, _) = identity.map_err(|error| Error {
        field: "renew.token".into(),
        ..error
    })?;
    let expires_ms = identity.grant.expires_ms;
    standing::renew(api, session, caller, identity.grant);
    Ok(expires_ms)
}

/// The connection ended: its user's last one ends the subscription.
pub fn log_out(api: &Api, session: &Session) {
    if let Some(caller) = session.caller() {
        standing::forget(api, session, caller);
        api.registry.remove(&caller.user, session);
        api.subscriptions.release(&caller.user);
    }
}

/// Whom the credentials speak for, and up to which change of the apps that was checked.
///
/// # Errors
/// They are not valid, an operator says no, or this gateway cannot tell yet.
pub async fn authenticate(api: &Api, credentials: &Credentials) -> Result<(Identity, u64), Error> {
    if !api.router.with_topology(|topology| topology.is_known()) {
        return Err(unknown_cluster());
    }
    let apps = |id: &str| {
        api.router
            .with_topology(|topology| topology.apps.app_called(id))
    };
    let identity = token::verify(credentials, now_ms(), apps).await?;
    let (app, user, grant) = (&identity.app, &identity.user, &identity.grant);
    let checked = api.router.with_topology(|topology| {
        let checked = standing::check(topology, app, user, grant, None);
        checked.map(|()| topology.apps.change())
    });
    let since = checked?;
    Ok((identity, since))
}

async fn admit<'s>(
    api: &Api,
    session: &'s Arc<Session>,
    credentials: &Credentials,
    agreed: Agreed,
    device: Device,
) -> Result<&'s Arc<Caller>, Error> {
    if session.caller().is_some() {
        let error = "this connection is logged in";
        return Err(Error::new(ErrorCode::AlreadyLoggedIn, error));
    }
    if api.draining() {
        let error = "this gateway is stopping, connect to another";
        return Err(Error::new(ErrorCode::ShuttingDown, error));
    }
    let address = session.address.ip();
    let checked = api.bounds.logins.check(address);
    checked.map_err(Refusal::count)?;
    let (identity, since) = authenticate(api, credentials).await?;
    let user = User {
        app: identity.app,
        id: identity.user,
    };
    subscribe(api, session, &user).await?;
    make_room(api, &user);
    let rates = api.bounds.rates.session(&user.app, &user.id);
    let role = identity.grant.role;
    let caller = session.log_in(Caller {
        user,
        app_called: credentials.app.clone(),
        session: session.id,
        standing: Mutex::new(standing::of(identity.grant, since)),
        agreed,
        chains: Chains::default(),
        device,
        since_ms: now_ms(),
        in_flight: InFlight::default(),
        reads: Semaphore::new(api.limits.reads_in_flight_max as usize),
        rates,
    });
    standing::begin(api, session, caller);
    tracing::debug!(
        session = %caller.session, %address, app = %caller.user.app, user = %caller.user.id, role = ?role,
        device = ?caller.device, since_ms = caller.since_ms, "logged in"
    );
    Ok(caller)
}

/// Of a user's sessions the newest stay.
fn make_room(api: &Api, user: &User) {
    for oldest in api.registry.beyond(user, api.limits.sessions_per_user_max) {
        refused("sessions_per_user");
        oldest.outbound.close(CloseReason::Replaced);
    }
}

/// Registers the session and waits until the home shard's leader pushes to us.
async fn subscribe(api: &Api, session: &Arc<Session>, user: &User) -> Result<(), Error> {
    api.registry.add(user, session);
    let Some(subscribed) = api.subscriptions.acquire(user) else {
        api.registry.remove(user, session);
        return Err(unknown_cluster());
    };
    let subscribed = timeout(api.limits.request_timeout(), subscribed).await;
    if !matches!(subscribed, Ok(Ok(()))) {
        api.registry.remove(user, session);
        api.subscriptions.release(user);
        let error = "the user's home shard did not answer in time";
        return Err(Error::new(ErrorCode::Unavailable, error));
    }
    Ok(())
}

fn unknown_cluster() -> Error {
    let error = "this gateway does not know its cluster yet";
    Error::new(ErrorCode::Unavailable, error)
}
