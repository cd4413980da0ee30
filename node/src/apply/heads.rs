//! Heads of the conversations that were written last, so that a message into a busy one reads no row.

use std::collections::HashMap;

use parlance_proto::store::v1::ConversationHead;

use super::rows::Rows;
use crate::store::{StoreError, Table};

/// Heads kept by one shard.
const HEADS_MAX: usize = 4096;

/// The newest heads by their row's key; always as the rows are.
#[derive(Default)]
pub(super) struct Heads {
    kept: HashMap<Vec<u8>, ConversationHead>,
}

impl Heads {
    /// A conversation's head; the default for one that does not exist yet.
    pub(super) fn get(&self, rows: &Rows<'_>, key: &[u8]) -> Result<ConversationHead, StoreError> {
        match self.kept.get(key) {
            Some(head) => Ok(*head),
            None => Ok(rows
                .get(Table::Conversations, key.to_vec())?
                .unwrap_or_default()),
        }
    }

    /// Writes a head.
    pub(super) fn put(&mut self, rows: &mut Rows<'_>, key: Vec<u8>, head: ConversationHead) {
        rows.put(Table::Conversations, key.clone(), &head);
        if self.kept.len() >= HEADS_MAX {
            self.kept.clear();
        }
        self.kept.insert(key, head);
    }

    /// The rows were replaced.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }
}
