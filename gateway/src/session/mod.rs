//! Sessions of this gateway: who is logged in on which connection.

pub mod login;
pub mod registry;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use parlance_proto::client::v1::{ServerFrame, server_frame};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::request::lane::Lane;
use crate::ws::codec::{Format, encode_server_frame};
use crate::ws::queue::Outbound;

/// One connection; a session once its login is answered.
#[derive(Debug)]
pub struct Session {
    /// Names the connection in this process and, once logged in, the session in the cluster.
    pub id: Uuid,
    /// How its frames are written.
    pub format: Format,
    /// What waits to be written.
    pub outbound: Outbound,
    user: OnceLock<User>,
    in_flight: AtomicU32,
    settled: Notify,
    /// Sends in progress by conversation; no memory when there are none.
    pub(crate) lanes: Mutex<HashMap<Arc<str>, Lane>>,
}

/// `(app, user_id)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    /// The app.
    pub app_id: Arc<str>,
    /// The user.
    pub user_id: Arc<str>,
}

impl Session {
    /// A connection without a login.
    pub fn new(format: Format, outbound: Outbound) -> Self {
        Self {
            id: Uuid::new_v4(),
            format,
            outbound,
            user: OnceLock::new(),
            in_flight: AtomicU32::new(0),
            settled: Notify::new(),
            lanes: Mutex::default(),
        }
    }

    /// Who is logged in.
    pub fn user(&self) -> Option<&User> {
        self.user.get()
    }

    /// The login succeeded.
    pub(crate) fn set_user(&self, user: User) {
        let _ = self.user.set(user);
    }

    /// Queues an answer; false if the connection is closing.
    pub fn answer(&self, request_id: u64, body: server_frame::Body) -> bool {
        let frame = ServerFrame {
            request_id,
            body: Some(body),
        };
        self.outbound.push(encode_server_frame(self.format, &frame))
    }

    /// Takes one of `max` places for unanswered requests.
    pub(crate) fn begin_request(&self, max: u32) -> bool {
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < max).then_some(n + 1)
            })
            .is_ok()
    }

    /// Gives the place back.
    pub(crate) fn end_request(&self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.settled.notify_waiters();
        }
    }

    /// Resolves when no request is unanswered.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.in_flight.load(Ordering::Acquire) == 0 {
                return;
            }
            settled.await;
        }
    }
}
