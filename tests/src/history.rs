//! What was sent, answered and seen, in the order in which this program saw it. Unknown is not absent: an attempt
//! without an answer stays an attempt, and the checker takes both outcomes for it.

mod run;

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

pub use run::{Closing, ListRow, OnlineSession, ReaderLog, ReplicaDigest, Run, ShardSlots};

/// What makes a message one message: P3's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageKey {
    pub conversation: String,
    pub sender: String,
    pub id: String,
}

/// One event of a conversation as somebody read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenEvent {
    pub seq: u64,
    pub time_ms: i64,
    pub sender: String,
    pub id: String,
    /// [`text_digest`] of its text.
    pub digest: String,
}

/// One row of a conversation list as somebody read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRow {
    pub conversation: String,
    pub head_seq: u64,
    pub read_seq: u64,
    pub unread_count: u64,
}

/// How an event came to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Push,
    /// Fetched after a login or a resync: the list had told of it.
    History,
    /// Fetched because a later one had come: its own push must follow.
    Gap,
    /// The answer to the session's own send.
    Own,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A send left for a gateway; again for every retry.
    Attempt {
        message: MessageKey,
        session: String,
        /// Counts the session's connections.
        connection: u64,
        digest: String,
    },
    /// It was acknowledged.
    Acknowledged {
        message: MessageKey,
        session: String,
        seq: u64,
        time_ms: i64,
        duplicate: bool,
    },
    /// An answer that says that this attempt stored nothing and never will.
    Refused {
        message: MessageKey,
        session: String,
        code: String,
    },
    /// A retryable error, or the connection ended before the answer: this attempt may or may not be stored.
    Doubt {
        message: MessageKey,
        session: String,
        /// The error's name; empty if the connection ended.
        code: String,
        reason: String,
    },
    /// A known id was sent with another payload; `code` is the answer.
    ConflictProbe {
        message: MessageKey,
        digest: String,
        code: String,
    },
    /// The session handed an event to its app.
    Received {
        session: String,
        user: String,
        conversation: String,
        event: SeenEvent,
        way: Way,
    },
    /// An event was pushed to a session that did not hand it to its app now: it had it, or lacks one before.
    Pushed {
        session: String,
        conversation: String,
        seq: u64,
    },
    /// The session is logged in and has read its list: from here on it is pushed everything.
    Online { session: String, user: String },
    /// Its connection ended.
    Offline { session: String },
    /// It was told that it may have missed something.
    Resync { session: String },
    /// A read cursor was moved and acknowledged, for a request that left at `invoked_us`.
    Marked {
        user: String,
        conversation: String,
        invoked_us: u64,
        asked: u64,
        read_seq: u64,
    },
    /// A head was read from the cluster, for a request that left at `invoked_us`.
    Head {
        session: String,
        conversation: String,
        invoked_us: u64,
        head_seq: u64,
    },
    /// Events from `start_seq` on were read from the cluster.
    Page {
        reader: String,
        conversation: String,
        invoked_us: u64,
        head_seq: u64,
        start_seq: u64,
        events: Vec<SeenEvent>,
        more: bool,
    },
    /// A page of a user's conversation list was read.
    Listed {
        session: String,
        user: String,
        invoked_us: u64,
        rows: Vec<SeenRow>,
        /// It was the whole list.
        whole: bool,
    },
    /// A fault begins or, healed, is over.
    Fault { name: String, over: bool },
    /// For people: a phase, a fault, a reconnect.
    Note { text: String },
}

/// When it happened, in µs since the start of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at_us: u64,
    #[serde(flatten)]
    pub what: What,
}

/// Cheap to clone; all clones write into one history.
#[derive(Debug, Clone)]
pub struct History {
    inner: Arc<Mutex<Vec<Entry>>>,
    start: Instant,
}

impl Default for History {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            start: Instant::now(),
        }
    }
}

impl History {
    /// Now, on the history's clock.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes one entry.
    pub fn record(&self, what: What) {
        // The clock is read inside the lock: entries are in the order of their times.
        let mut entries = self.inner.lock();
        let at_us = self.now_us();
        entries.push(Entry { at_us, what });
    }

    /// Writes a note, and shows it.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        eprintln!("[{:8.3}] {text}", self.now_us() as f64 / 1e6);
        self.record(What::Note { text });
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.inner.lock().clone()
    }
}

/// A short digest of a message's text.
pub fn text_digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()).get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_survives_its_files() {
        let history = History::default();
        let message = MessageKey {
            conversation: "d:1:a:b".into(),
            sender: "a".into(),
            id: "1".into(),
        };
        history.record(What::Attempt {
            message: message.clone(),
            session: "a/1".into(),
            connection: 1,
            digest: text_digest("x"),
        });
        history.record(What::Acknowledged {
            message,
            session: "a/1".into(),
            seq: 1,
            time_ms: 5,
            duplicate: false,
        });
        let closing = Closing {
            shards: vec![ShardSlots {
                shard: 1,
                first_slot: 0,
                last_slot: 16_383,
            }],
            app_id: "demo".into(),
            ..Closing::default()
        };
        let run = Run {
            entries: history.entries(),
            closing,
        };
        let dir = tempfile::tempdir().unwrap();
        run.save(dir.path()).unwrap();
        assert_eq!(Run::load(dir.path()).unwrap(), run);
    }
}
