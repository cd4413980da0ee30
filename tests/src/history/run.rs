//! A whole run: what happened, and what was read when all was quiet; written to files and read again.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Entry, SeenEvent};

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
