//! The rows that a batch of entries sees: its own changes on top of the store.
//!
//! A row that changes several times in a batch is written once.

use std::collections::BTreeMap;

use parlance_proto::shard::Group;
use prost::Message;

use super::decode;
use crate::store::{StateStore, StoreError, Table, WriteSet};

pub(super) struct Rows<'a> {
    group: Group,
    store: &'a dyn StateStore,
    /// By key: neighbours are cheaper to insert one after the other.
    changed: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    ranges: Vec<(Table, Vec<u8>, Vec<u8>)>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(group: Group, store: &'a dyn StateStore) -> Self {
        Self {
            group,
            store,
            changed: BTreeMap::new(),
            ranges: Vec::new(),
        }
    }

    pub(super) fn group(&self) -> Group {
        self.group
    }

    /// A row as the batch has it so far.
    pub(super) fn get<M: Message + Default>(
        &self,
        table: Table,
        key: Vec<u8>,
    ) -> Result<Option<M>, StoreError> {
        let place = (table, key);
        if let Some(value) = self.changed.get(&place) {
            return decode(table.name(), value).map(Some);
        }
        self.store
            .get(table, &place.1)?
            .map(|row| decode(table.name(), &row))
            .transpose()
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: &impl Message) {
        self.changed.insert((table, key), value.encode_to_vec());
    }

    /// Removes rows, those that the batch has written so far too. The batch does not read them any more.
    pub(super) fn delete_range(&mut self, table: Table, from: Vec<u8>, to: Vec<u8>) {
        self.changed
            .retain(|(of, key), _| *of != table || *key < from || *key >= to);
        self.ranges.push((table, from, to));
    }

    pub(super) fn finish(self, write: &mut WriteSet) {
        for (table, from, to) in self.ranges {
            write.delete_range(table, from, to);
        }
        for ((table, key), value) in self.changed {
            write.put(table, key, value);
        }
    }
}
