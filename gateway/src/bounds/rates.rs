//! Messages and requests a second. A session that is refused stays refused for a moment: what it has sent behind the
//! refused message, before it could know, is refused too, so that sending all of it again keeps the order.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::common::v1::AppLimits;
use parlance_proto::ids::{AppId, UserId};
use tokio::time::Instant;

use super::bucket::{Bucket, Shared, quota};
use super::{Patience, Refusal};
use crate::config::Limits;

/// A refused session stays refused for so long at least: longer than most round trips.
const PAUSE: Duration = Duration::from_secs(1);

/// Messages a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRates {
    /// Of one session.
    pub session: NonZeroU32,
    /// Of one user.
    pub user: NonZeroU32,
    /// Of one app.
    pub app: NonZeroU32,
}

impl MessageRates {
    /// What an app's limits say, and these where they say nothing.
    pub fn of_app(self, limits: Option<&AppLimits>) -> Self {
        let limits = limits.copied().unwrap_or_default();
        let or = |said, otherwise| NonZeroU32::new(said).unwrap_or(otherwise);
        Self {
            session: or(limits.session_messages_per_second, self.session),
            user: or(limits.user_messages_per_second, self.user),
            app: or(limits.app_messages_per_second, self.app),
        }
    }
}

/// The rates of all who are logged in here.
#[derive(Debug)]
pub struct Rates {
    messages: MessageRates,
    requests: NonZeroU32,
    users: Mutex<Shared<(AppId, UserId)>>,
    apps: Mutex<Shared<AppId>>,
}

/// The rates of one session, and of its user and app.
#[derive(Debug)]
pub struct SessionRates {
    session: Bucket,
    user: Arc<Bucket>,
    app: Arc<Bucket>,
    requests: Bucket,
    requests_per_second: NonZeroU32,
    paused_until: Mutex<Option<Instant>>,
    /// With what it is refused.
    pub patience: Patience,
}

impl Rates {
    /// What the settings say where an app says nothing.
    pub fn new(limits: &Limits) -> Self {
        Self {
            messages: MessageRates {
                session: limits.messages_per_second,
                user: limits.user_messages_per_second,
                app: limits.app_messages_per_second,
            },
            requests: limits.requests_per_second,
            users: Mutex::new(Shared::new()),
            apps: Mutex::new(Shared::new()),
        }
    }

    /// The rates of an app with these limits.
    pub fn of_app(&self, limits: Option<&AppLimits>) -> MessageRates {
        self.messages.of_app(limits)
    }

    /// The rates of a session that logs in.
    pub fn session(&self, app: &AppId, user: &UserId) -> SessionRates {
        let of_user = (app.clone(), user.clone());
        SessionRates {
            session: Bucket::new(self.messages.session),
            user: self.users.lock().of(of_user, self.messages.user),
            app: self.apps.lock().of(app.clone(), self.messages.app),
            requests: Bucket::new(self.requests),
            requests_per_second: self.requests,
            paused_until: Mutex::default(),
            patience: Patience::new(quota(self.requests)),
        }
    }
}

impl SessionRates {
    /// One more message.
    pub fn message(&self, rates: MessageRates) -> Result<(), Refusal> {
        self.message_at(rates, Instant::now())
    }

    fn message_at(&self, rates: MessageRates, now: Instant) -> Result<(), Refusal> {
        let refusal = |reason, what| {
            move |retry_after| Refusal {
                reason,
                what,
                retry_after,
            }
        };
        let of_session = refusal(
            "messages_session",
            "this session sends too many messages a second",
        );
        let mut paused = self.paused_until.lock();
        if let Some(left) = paused.and_then(|until| until.checked_duration_since(now))
            && !left.is_zero()
        {
            return Err(of_session(left));
        }
        let checked = self
            .session
            .check(rates.session)
            .map_err(of_session)
            .and_then(|()| {
                let what = "this user sends too many messages a second";
                let checked = self.user.check(rates.user);
                checked.map_err(refusal("messages_user", what))
            })
            .and_then(|()| {
                let what = "the app's users send too many messages a second";
                let checked = self.app.check(rates.app);
                checked.map_err(refusal("messages_app", what))
            });
        checked.map_err(|refusal| {
            let retry_after = refusal.retry_after.max(PAUSE);
            *paused = Some(now + retry_after);
            Refusal {
                retry_after,
                ..refusal
            }
        })
    }

    /// One more request, of whatever kind.
    pub fn request(&self) -> Result<(), Refusal> {
        let checked = self.requests.check(self.requests_per_second);
        checked.map_err(|retry_after| Refusal {
            reason: "requests",
            what: "this session asks too often",
            retry_after,
        })
    }
}

#[cfg(test)]
impl SessionRates {
    /// The rates of somebody.
    pub fn of_nobody() -> Self {
        let (app, user) = (AppId::new("demo"), UserId::new("nobody"));
        Rates::new(&Limits::default()).session(&app.unwrap(), &user.unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(session: u32, user: u32, app: u32) -> MessageRates {
        let n = |n| NonZeroU32::new(n).unwrap();
        MessageRates {
            session: n(session),
            user: n(user),
            app: n(app),
        }
    }

    fn session(all: &Rates, user: &str) -> SessionRates {
        let app = AppId::new("demo").unwrap();
        all.session(&app, &UserId::new(user).unwrap())
    }

    fn taken(session: &SessionRates, rates: MessageRates) -> (u32, &'static str) {
        let mut taken = 0;
        loop {
            match session.message(rates) {
                Ok(()) => taken += 1,
                Err(refusal) => return (taken, refusal.reason),
            }
        }
    }

    #[test]
    fn sessions_users_and_apps_have_a_limit_each() {
        let all = Rates::new(&Limits::default());
        let alice = session(&all, "alice");
        assert_eq!(taken(&alice, rates(1, 9, 99)), (5, "messages_session"));
        let (again, other) = (session(&all, "alice"), session(&all, "bob"));
        // The user's two sessions share what is left of the user's.
        assert_eq!(taken(&again, rates(9, 9, 99)), (40, "messages_user"));
        let (count, reason) = taken(&other, rates(999, 999, 99));
        assert_eq!(reason, "messages_app");
        assert!((440..=460).contains(&count), "{count}");
    }

    #[test]
    fn a_refused_session_pauses_so_that_nothing_overtakes() {
        let all = Rates::new(&Limits::default());
        let alice = session(&all, "alice");
        taken(&alice, rates(1, 999, 999));
        // Whatever there is room for again: the pause counts.
        let now = Instant::now();
        let refusal = alice.message_at(rates(999, 999, 999), now).unwrap_err();
        assert!(refusal.retry_after <= PAUSE);
        let later = now + refusal.retry_after;
        alice.message_at(rates(999, 999, 999), later).unwrap();
    }

    #[test]
    fn an_apps_limits_count_where_they_say_something() {
        let limits = AppLimits {
            user_messages_per_second: 7,
            ..AppLimits::default()
        };
        assert_eq!(rates(1, 2, 3).of_app(Some(&limits)), rates(1, 7, 3));
        assert_eq!(rates(1, 2, 3).of_app(None), rates(1, 2, 3));
    }
}
