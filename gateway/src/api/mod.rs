//! What a caller can ask, one file a noun: from typed requests to typed answers, whatever the client speaks. Order, limits
//! and the rules that a gateway can check are here; membership is the shard's to judge.

mod batch;
pub mod conversations;
mod heads;
mod lane;
pub mod messages;
pub mod sessions;
pub mod standing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ConversationId;
use parlance_proto::slot::Slot;
use tokio::time::Instant;

use crate::bounds::{Bounds, Refusal};
use crate::cluster::{Ask, Place, Router};
use crate::config::Limits;
use crate::fanout::Subscriptions;
use crate::session::{Caller, Deadlines, Registry, Unanswered};

/// What is full now has room again about then.
const FULL_RETRY_AFTER: Duration = Duration::from_millis(500);

/// What all endpoints share.
pub struct Api {
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// What all clients may take.
    pub bounds: Bounds,
    router: Arc<Router>,
    subscriptions: Arc<Subscriptions>,
    deadlines: Deadlines,
    lanes: lane::Lanes,
    draining: AtomicBool,
}

impl Api {
    /// An api that asks the cluster behind `router`.
    pub fn new(
        limits: Limits,
        registry: Arc<Registry>,
        router: Arc<Router>,
        subscriptions: Arc<Subscriptions>,
    ) -> Self {
        Self {
            bounds: Bounds::new(&limits),
            limits,
            registry,
            router,
            subscriptions,
            deadlines: Deadlines::default(),
            lanes: lane::Lanes::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// Whether a graceful stop has begun.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// A graceful stop begins: nobody logs in any more.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Begins a request of so many bytes, without which nothing can be asked: whoever is not logged in, or asks for more
    /// than is allowed, is refused.
    pub fn begin(&self, caller: Option<&Arc<Caller>>, bytes: usize) -> Result<Unanswered, Error> {
        let caller = caller.ok_or_else(|| Error::new(ErrorCode::NotLoggedIn, "log in first"))?;
        let charge = self.bounds.inbound.try_take(bytes).ok_or_else(|| {
            let what = "the gateway has too many requests to work on";
            full("inbound_total", what).count()
        })?;
        let begun = Unanswered::begin(caller, self.limits.requests_in_flight_max, charge);
        begun.ok_or_else(|| {
            let what = "too many requests of this session are unanswered";
            full("requests_in_flight", what).count()
        })
    }

    /// One more message of the caller's.
    fn admit_message(&self, caller: &Caller) -> Result<(), Error> {
        let id = caller.user.app.as_str();
        let app = self.router.with_topology(|t| t.apps.app(id));
        let limits = app.as_ref().and_then(|app| app.limits.as_ref());
        let rates = self.bounds.rates.of_app(limits);
        caller.rates.message(rates).map_err(Refusal::count)
    }

    /// Asks for what may be asked again: reads, and cursors that only rise.
    async fn ask<A: Ask>(&self, place: Slot, ask: &A) -> Result<A::Answer, Error> {
        let deadline = Instant::now() + self.limits.request_timeout();
        self.ask_until(place, ask, deadline).await
    }

    async fn ask_until<A: Ask>(
        &self,
        place: Slot,
        ask: &A,
        deadline: Instant,
    ) -> Result<A::Answer, Error> {
        let answered = self.router.call(Place::Slot(place), ask, deadline).await;
        answered
            .map(|answered| answered.answer)
            .map_err(|failure| failure.error)
    }
}

fn full(reason: &'static str, what: &'static str) -> Refusal {
    Refusal {
        reason,
        what,
        retry_after: FULL_RETRY_AFTER,
    }
}

/// The slot of a conversation of the caller's app.
fn slot_of(caller: &Caller, conversation: &ConversationId) -> Slot {
    Slot::of_conversation(&caller.user.app, conversation)
}

/// The wall clock, for what clients are told; in ms since 1970 UTC.
#[allow(
    clippy::disallowed_methods,
    reason = "the gateway's only look at the wall clock"
)]
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
