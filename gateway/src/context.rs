//! What every connection and request of this gateway shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parlance_proto::shard::{conversation_shard, home_shard};

use crate::config::Config;
use crate::fanout::topics::Topics;
use crate::link::route::Router;
use crate::session::User;
use crate::session::registry::Registry;
use crate::token::TokenVerifier;

/// Shared by all parts of one gateway.
pub struct Context {
    /// The settings.
    pub config: Config,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// The way to the nodes.
    pub router: Arc<Router>,
    /// What nodes push to us.
    pub topics: Topics,
    /// Who may log in.
    pub verifier: Box<dyn TokenVerifier>,
    /// A graceful stop has begun.
    pub draining: AtomicBool,
}

impl Context {
    pub(crate) fn conversation_shard(&self, app_id: &str, conversation_id: &str) -> u32 {
        conversation_shard(
            app_id,
            conversation_id,
            self.router.with_view(|v| v.shard_count),
        )
    }

    pub(crate) fn home_shard(&self, user: &User) -> u32 {
        home_shard(
            &user.app_id,
            &user.user_id,
            self.router.with_view(|v| v.shard_count),
        )
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// The wall clock, for what clients are told; in ms since 1970 UTC.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
