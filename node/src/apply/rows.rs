//! The rows that a batch of entries sees: its own changes on top of the store.
//!
//! A row that changes several times in a batch is written once.

use std::collections::BTreeMap;

use parlance_proto::ids::UserId;
use parlance_proto::store::v1::{ConversationHead, Member, StoredEvent};
use prost::Message;

use crate::conversation::ConversationRows;
use crate::store::key::{self, ConversationKeys};
use crate::store::{Order, StateStore, StoreError, Table, WriteBatch, decode};

pub(super) struct Rows<'a> {
    store: &'a dyn StateStore,
    /// By key: neighbours are cheaper to insert one after the other. None removes the row.
    changed: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    ranges: Vec<(Table, Vec<u8>, Vec<u8>)>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(store: &'a dyn StateStore) -> Self {
        Self {
            store,
            changed: BTreeMap::new(),
            ranges: Vec::new(),
        }
    }

    /// The store without the batch.
    pub(super) fn store(&self) -> &'a dyn StateStore {
        self.store
    }

    /// A row as the batch has it so far.
    pub(super) fn get<M: Message + Default>(
        &self,
        table: Table,
        key: Vec<u8>,
    ) -> Result<Option<M>, StoreError> {
        let place = (table, key);
        if let Some(value) = self.changed.get(&place) {
            let row = value.as_ref();
            return row.map(|row| decode(table.name(), row)).transpose();
        }
        self.store
            .get(table, &place.1)?
            .map(|row| decode(table.name(), &row))
            .transpose()
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: &impl Message) {
        let row = Some(value.encode_to_vec());
        self.changed.insert((table, key), row);
    }

    pub(super) fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.changed.insert((table, key), None);
    }

    /// The rows of a range as the batch has written them so far, without those of the store.
    pub(super) fn written(
        &self,
        table: Table,
        (from, to): (Vec<u8>, Vec<u8>),
    ) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.changed
            .range((table, from)..(table, to))
            .filter_map(|((_, key), value)| Some((key.as_slice(), value.as_deref()?)))
    }

    /// Removes rows, those that the batch has written so far too. The batch does not read them any more.
    pub(super) fn delete_range(&mut self, table: Table, from: Vec<u8>, to: Vec<u8>) {
        self.changed
            .retain(|(of, key), _| *of != table || *key < from || *key >= to);
        self.ranges.push((table, from, to));
    }

    pub(super) fn finish(self, write: &mut WriteBatch) {
        for (table, from, to) in self.ranges {
            write.delete_range(table, from, to);
        }
        for ((table, key), value) in self.changed {
            match value {
                Some(value) => write.put(table, key, value),
                None => write.delete(table, key),
            }
        }
    }
}

impl ConversationRows for Rows<'_> {
    fn head(&self, keys: &ConversationKeys) -> Result<Option<ConversationHead>, StoreError> {
        self.get(Table::Conversations, keys.head().to_vec())
    }

    fn member(&self, keys: &ConversationKeys, user: &UserId) -> Result<Option<Member>, StoreError> {
        self.get(Table::Members, keys.member(user))
    }

    fn event(&self, keys: &ConversationKeys, seq: u64) -> Result<Option<StoredEvent>, StoreError> {
        self.get(Table::Events, keys.event(seq))
    }

    fn events(
        &self,
        keys: &ConversationKeys,
        from: u64,
    ) -> Result<Vec<(u64, StoredEvent)>, StoreError> {
        let range = (keys.event(from), keys.event(u64::MAX));
        let mut rows = Vec::new();
        self.store.scan(
            Table::Events,
            &range.0,
            &range.1,
            Order::Ascending,
            &mut |key, row| {
                rows.push((key.to_vec(), row.to_vec()));
                true
            },
        )?;
        let written = self.written(Table::Events, range);
        rows.extend(written.map(|(key, row)| (key.to_vec(), row.to_vec())));
        rows.iter()
            .map(|(key, row)| {
                let seq = key::event_seq(key).ok_or_else(|| StoreError::Damaged {
                    what: "event key".to_owned(),
                    reason: "too short".to_owned(),
                })?;
                Ok((seq, decode("event", row)?))
            })
            .collect()
    }
}
