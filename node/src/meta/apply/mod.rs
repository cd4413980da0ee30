//! Applies the meta shard's commands. Deterministic, as all apply code.
//!
//! `nodes.rs`, `splits.rs` and `certificates.rs` change the map, `apps.rs` the apps and the kicks; what they refuse is an
//! answer, and changes nothing.

#![deny(clippy::iter_over_hash_type)] // its order differs between replicas

pub(super) mod apps;
#[cfg(test)]
mod apps_tests;
pub(super) mod certificates;
mod nodes;
mod splits;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parlance_proto::ids::ShardId;
use parlance_proto::store::v1::{
    App, ClusterMap, InitCluster, Kick, MetaCommand, MetaOutcome, MetaRefusal, meta_command,
    meta_outcome, meta_refusal::Reason,
};
use prost::Message;
use tokio::sync::watch;

use super::{Kicks, MetaState};
use crate::machine::{CommittedEntry, Outcome, StateMachine};
use crate::store::{Order, RowRange, StateStore, StoreError, Table, WriteBatch, decode, key};

/// Whether a command changed anything, or why it may not.
type Change = Result<bool, MetaRefusal>;

/// The state machine of the meta shard.
pub struct MetaMachine {
    ranges: Arc<[RowRange]>,
    store: Arc<dyn StateStore>,
    levels: RangeInclusive<u32>,
    map: Option<ClusterMap>,
    apps: BTreeMap<String, App>,
    kicks: Arc<Kicks>,
    watch: watch::Sender<Arc<MetaState>>,
}

impl MetaMachine {
    /// Reads the rows and shows them to `watch`. `levels` are the feature levels that this program speaks: a command
    /// above them stops the replica.
    pub fn open(
        store: Arc<dyn StateStore>,
        levels: RangeInclusive<u32>,
        watch: watch::Sender<Arc<MetaState>>,
    ) -> Result<Self, StoreError> {
        let (map, apps, kicks) = load(&*store)?;
        let state = MetaState::new(map.clone(), apps.clone()).with_kicks(kicks.clone());
        watch.send_replace(Arc::new(state));
        let (from, to) = key::shard_range(ShardId::META);
        let table = Table::Meta;
        Ok(Self {
            ranges: [RowRange { table, from, to }].into(),
            store,
            levels,
            map,
            apps,
            kicks,
            watch,
        })
    }

    fn version_now(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.version)
    }

    fn check_level(&self, level: u32) -> Result<(), StoreError> {
        if level > *self.levels.end() {
            return Err(StoreError::NeedsNewerVersion { level });
        }
        Ok(())
    }

    fn apply_command(
        &mut self,
        command: MetaCommand,
        write: &mut WriteBatch,
    ) -> Result<MetaOutcome, StoreError> {
        self.check_level(command.level)?;
        // Not even the command's kind is known: a newer program made it.
        let newer = || StoreError::NeedsNewerVersion {
            level: self.levels.end() + 1,
        };
        let body = command.body.ok_or_else(newer)?;
        let time_ms = command.time_ms;
        let change = match body {
            meta_command::Body::InitCluster(init) => self.init_cluster(init),
            meta_command::Body::CreateApp(create) => {
                apps::create(&mut self.apps, create.app.unwrap_or_default(), write)
            }
            meta_command::Body::ChangeApp(change) => {
                let wanted = change.changes.into_iter().map(|wanted| wanted.change);
                let wanted: Option<Vec<_>> = wanted.collect();
                let wanted = wanted.ok_or_else(newer)?;
                apps::change(&mut self.apps, &change.app_id, wanted, write)
            }
            meta_command::Body::KickUser(kick) => {
                let kicks = Arc::make_mut(&mut self.kicks);
                apps::kick(&self.apps, kicks, kick, time_ms, write)
            }
            meta_command::Body::SetAppLimits(set) => {
                apps::set_limits(&mut self.apps, &set.app_id, set.limits, write)
            }
            meta_command::Body::AddNode(add) => {
                self.change(|map| nodes::add(map, add.node.unwrap_or_default()))
            }
            meta_command::Body::ReplaceNode(replace) => {
                self.change(|map| nodes::replace(map, &replace))
            }
            meta_command::Body::BeginSplit(begin) => {
                self.change(|map| splits::begin(map, begin.parent, begin.first_slot))
            }
            meta_command::Body::FinishSplit(finish) => {
                self.change(|map| splits::finish(map, finish.parent, finish.child, finish.epoch))
            }
            meta_command::Body::RaiseFeatureLevel(raise) => {
                self.check_level(raise.level)?;
                self.change(|map| Ok(raise_level(map, raise.level)))
            }
            meta_command::Body::DenyCertificate(deny) => self.change(|map| {
                let certificate = deny.certificate.unwrap_or_default();
                certificates::deny(map, certificate, time_ms)
            }),
            meta_command::Body::AllowCertificate(allow) => {
                self.change(|map| Ok(certificates::allow(map, &allow.serial)))
            }
        };
        let result = match change {
            Ok(changed) => meta_outcome::Result::MapVersion(self.version(changed, write)),
            Err(refusal) => meta_outcome::Result::Refusal(refusal),
        };
        Ok(MetaOutcome {
            result: Some(result),
        })
    }

    /// The map's version, a new one after a change.
    fn version(&mut self, changed: bool, write: &mut WriteBatch) -> u64 {
        let map = self.map.get_or_insert_default();
        if changed {
            map.version += 1;
            write.put(Table::Meta, key::cluster_map(), map.encode_to_vec());
        }
        map.version
    }

    fn change(&mut self, change: impl FnOnce(&mut ClusterMap) -> Change) -> Change {
        let map = self.map.as_mut();
        change(map.ok_or_else(|| refusal(Reason::NotFound, "there is no cluster yet"))?)
    }

    fn init_cluster(&mut self, init: InitCluster) -> Change {
        if let Some(map) = &self.map {
            let message = format!("the cluster {} exists already", map.cluster_id);
            return Err(refusal(Reason::Exists, message));
        }
        self.map = init.map;
        Ok(true)
    }
}

/// Never goes down: what was proposed at a level stays in the logs.
fn raise_level(map: &mut ClusterMap, level: u32) -> bool {
    let rises = level > map.feature_level;
    map.feature_level = map.feature_level.max(level);
    rises
}

fn refusal(reason: Reason, message: impl Into<String>) -> MetaRefusal {
    MetaRefusal {
        reason: reason.into(),
        message: message.into(),
    }
}

type Rows = (Option<ClusterMap>, BTreeMap<String, App>, Arc<Kicks>);

fn load(store: &dyn StateStore) -> Result<Rows, StoreError> {
    let map = store.get(Table::Meta, &key::cluster_map())?;
    let map = map.map(|row| decode("cluster map", &row)).transpose()?;
    let apps = load_all::<App>(store, "app", key::apps())?;
    let apps = apps.into_iter().map(|app| (app.app_id.clone(), app));
    let kicks = load_all::<Kick>(store, "kick", key::kicks())?;
    let kicks = kicks.into_iter().map(|kick| (apps::user_of(&kick), kick));
    Ok((map, apps.collect(), Arc::new(kicks.collect())))
}

fn load_all<M: Message + Default>(
    store: &dyn StateStore,
    what: &str,
    (from, to): (Vec<u8>, Vec<u8>),
) -> Result<Vec<M>, StoreError> {
    let mut rows = Vec::new();
    store.scan(Table::Meta, &from, &to, Order::Ascending, &mut |_, row| {
        rows.push(decode::<M>(what, row));
        true
    })?;
    rows.into_iter().collect()
}

impl StateMachine for MetaMachine {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        write: &mut WriteBatch,
    ) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            outcomes.push(match &entry.payload {
                None => Outcome::None,
                Some(payload) => {
                    let command = decode::<MetaCommand>("log entry of the meta shard", payload)?;
                    Outcome::Meta(self.apply_command(command, write)?)
                }
            });
        }
        // Nodes find each other by the map, and gateways their apps, before anything is replayed.
        if self.watch.borrow().version() != self.version_now() {
            write.put_on_disk_first();
        }
        Ok(outcomes)
    }

    fn written(&mut self) {
        if self.watch.borrow().version() == self.version_now() {
            return;
        }
        let state = MetaState::new(self.map.clone(), self.apps.clone());
        let state = state.with_kicks(self.kicks.clone());
        self.watch.send_replace(Arc::new(state));
    }

    fn ranges(&self) -> Arc<[RowRange]> {
        self.ranges.clone()
    }

    fn restored(&mut self) -> Result<(), StoreError> {
        (self.map, self.apps, self.kicks) = load(&*self.store)?;
        self.check_level(self.map.as_ref().map_or(0, |map| map.feature_level))?;
        self.written();
        Ok(())
    }
}
