//! What was sent, answered and seen, in the order in which this program saw it. Unknown is not absent: an attempt
//! without an answer stays an attempt, and the checker takes both outcomes for it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

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

/// How an event came to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Push,
    History,
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
    /// A read cursor was moved and acknowledged.
    Marked {
        user: String,
        conversation: String,
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

/// What was read when all was quiet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Every conversation, read whole by both its users through every gateway.
    pub logs: Vec<ReaderLog>,
    /// Every row of every user's conversation list.
    pub rows: Vec<ListRow>,
    /// Every replica of every shard.
    pub replicas: Vec<ReplicaDigest>,
    /// The sessions that were online to the end: what they lack will not come by itself.
    pub online: Vec<OnlineSession>,
    /// The cluster map as it was then; shards may have been split on the way there.
    pub shards: Vec<ShardSlots>,
    pub app_id: String,
}

/// The slots of one shard, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSlots {
    pub shard: u32,
    pub first_slot: u32,
    pub last_slot: u32,
}

/// A session that must have everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlineSession {
    pub session: String,
    pub user: String,
}

/// One conversation as one reader reads it from the start to the head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderLog {
    pub reader: String,
    pub gateway: String,
    pub conversation: String,
    pub events: Vec<SeenEvent>,
}

/// One row of a user's conversation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRow {
    pub user: String,
    pub gateway: String,
    pub conversation: String,
    pub head_seq: u64,
    pub read_seq: u64,
    pub unread_count: u64,
}

/// One replica's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaDigest {
    pub node_id: u64,
    pub shard: u32,
    pub applied: u64,
    pub digest: String,
    pub rows: u64,
}

/// All that the checker looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    pub entries: Vec<Entry>,
    pub closing: Closing,
}

impl Run {
    /// Writes the run into a directory: `history.jsonl` and `closing.json`.
    pub fn save(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut lines = String::new();
        for entry in &self.entries {
            lines.push_str(&serde_json::to_string(entry)?);
            lines.push('\n');
        }
        std::fs::write(dir.join("history.jsonl"), lines)?;
        std::fs::write(
            dir.join("closing.json"),
            serde_json::to_vec_pretty(&self.closing)?,
        )?;
        Ok(())
    }

    /// Reads what [`Run::save`] wrote.
    pub fn load(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let entries = read("history.jsonl")?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            entries,
            closing: serde_json::from_str(&read("closing.json")?)?,
        })
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
