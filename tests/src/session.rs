//! A session that behaves as an SDK does: it keeps its sends until they are answered and sends them again with the
//! same ids, connects again elsewhere, fetches what it missed, and hands each event to its app once and in order.
//! Everything goes into the history.

mod answers;
mod inbox;
mod lane;
mod online;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::history::{History, MessageKey};
use crate::token::Signer;
pub use answers::event_as_seen;

/// Who a session is and where it may connect.
#[derive(Debug, Clone)]
pub struct SessionSpec {
    /// Unique in the run, as in `alice/1`.
    pub name: String,
    pub user: String,
    pub signer: Signer,
    /// The first is tried first.
    pub gateways: Vec<String>,
    pub seed: u64,
}

/// What the app may be ahead of its session.
const COMMANDS_MAX: usize = 64;

/// How a send ended, as the app sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged {
        seq: u64,
    },
    /// An error that no retry mends.
    Refused {
        code: String,
    },
    /// The session ended before an answer came.
    Unknown,
}

/// What the app asks of its session.
enum Command {
    Send {
        message: MessageKey,
        to: String,
        text: String,
        done: oneshot::Sender<Outcome>,
    },
    MarkRead {
        conversation: String,
        seq: u64,
        /// Dropped when there is an answer, or will be none.
        done: oneshot::Sender<()>,
    },
    /// Drop the connection without a word and connect to the next gateway.
    Reconnect,
    /// Log out and end.
    Stop,
}

/// What went on in a session, for people and for tests.
#[derive(Debug, Default)]
pub struct Counters {
    pub logins: AtomicU64,
    pub error_answers: AtomicU64,
    pub gap_fetches: AtomicU64,
    pub resyncs: AtomicU64,
}

/// What the session and its owner both see.
#[derive(Debug, Default)]
struct Shared {
    /// The last seq handed to the app, by conversation.
    last: Mutex<BTreeMap<String, u64>>,
    /// Sends without an answer.
    open_sends: AtomicU64,
    online: std::sync::atomic::AtomicBool,
    /// Events that were fetched past a gap, and whose pushes have not come.
    unpushed: Mutex<BTreeSet<(String, u64)>>,
    counters: Counters,
}

/// A running session.
pub struct Session {
    pub name: String,
    pub user: String,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Session {
    /// Starts to connect.
    pub fn start(spec: SessionSpec, history: History) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let shared = Arc::new(Shared::default());
        let (name, user) = (spec.name.clone(), spec.user.clone());
        let task = tokio::spawn(run::run(spec, history, Arc::clone(&shared), inbox));
        Self {
            name,
            user,
            commands,
            shared,
            task,
        }
    }

    /// Sends a text; the answer comes when it is acknowledged or refused, however long that takes.
    pub async fn send(
        &self,
        message: MessageKey,
        to: &str,
        text: String,
    ) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        self.shared.open_sends.fetch_add(1, Ordering::SeqCst);
        // A session that has ended drops the sender, which the receiver sees.
        let _ = self
            .commands
            .send(Command::Send {
                message,
                to: to.to_owned(),
                text,
                done,
            })
            .await;
        outcome
    }

    /// Moves the read cursor, if the session is online; returns when that is answered or given up, so that whoever lists
    /// conversations afterwards knows what to expect.
    pub async fn mark_read(&self, conversation: &str, seq: u64) {
        let (done, ended) = oneshot::channel();
        let _ = self
            .commands
            .send(Command::MarkRead {
                conversation: conversation.to_owned(),
                seq,
                done,
            })
            .await;
        let _ = ended.await;
    }

    /// Breaks the connection as a lost network does.
    pub async fn reconnect(&self) {
        let _ = self.commands.send(Command::Reconnect).await;
    }

    /// The last seq handed to the app, by conversation.
    pub fn last(&self) -> BTreeMap<String, u64> {
        self.shared.last.lock().clone()
    }

    /// Sends without an answer.
    pub fn open_sends(&self) -> u64 {
        self.shared.open_sends.load(Ordering::SeqCst)
    }

    /// Events of others that the session had to fetch, and that were not pushed since.
    pub fn unpushed(&self) -> usize {
        self.shared.unpushed.lock().len()
    }

    /// Logged in and in sync with what the list said then.
    pub fn is_online(&self) -> bool {
        self.shared.online.load(Ordering::SeqCst)
    }

    /// What went on.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Logs out.
    pub async fn stop(self) {
        let _ = self.commands.send(Command::Stop).await;
        let _ = self.task.await;
    }
}
