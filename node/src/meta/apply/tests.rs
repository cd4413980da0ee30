//! The meta shard's commands, applied as they come from the log.

use parlance_proto::common::v1::AppLimits;
use parlance_proto::limits::SHARD_COUNT_MAX;
use parlance_proto::store::v1::{
    AddNode, BeginSplit, CreateApp, FinishSplit, MapNode, MapShard, NodeState, RaiseFeatureLevel,
    ReplaceNode, SetAppLimits,
};

use super::*;
use crate::store::Table;
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;

pub(super) struct Meta {
    _dir: tempfile::TempDir,
    pub(super) machine: MetaMachine,
    index: u64,
}

impl Meta {
    /// Two nodes, two shards.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(RocksStore::open(dir.path(), Existing::No).unwrap());
        let watch = watch::Sender::new(Arc::default());
        let mut meta = Self {
            _dir: dir,
            machine: MetaMachine::open(store, 1..=2, watch).unwrap(),
            index: 0,
        };
        let shard = |shard, replicas: &[u64], first_slot, last_slot| MapShard {
            shard,
            replicas: replicas.to_vec(),
            founder: shard.into(),
            first_slot,
            last_slot,
            epoch: 1,
            ..MapShard::default()
        };
        let node = |node_id| MapNode {
            node_id,
            state: NodeState::Member.into(),
            ..MapNode::default()
        };
        let map = ClusterMap {
            cluster_id: "c".into(),
            feature_level: 1,
            nodes: vec![node(1), node(2)],
            shards: vec![
                shard(1, &[1, 2], 0, 8_191),
                shard(2, &[1, 2], 8_192, 16_383),
            ],
            meta_replicas: vec![1, 2],
            ..ClusterMap::default()
        };
        meta.done(meta_command::Body::InitCluster(InitCluster {
            map: Some(map),
        }));
        meta
    }

    pub(super) fn command(&mut self, command: &MetaCommand) -> Result<MetaOutcome, StoreError> {
        self.index += 1;
        let entry = CommittedEntry {
            index: self.index,
            term: 1,
            payload: Some(command.encode_to_vec().into()),
            ..CommittedEntry::default()
        };
        let mut write = WriteBatch::default();
        let outcome = self.machine.apply(&[entry], &mut write)?.remove(0);
        self.machine.store.write(&write)?;
        self.machine.written();
        match outcome {
            Outcome::Meta(outcome) => Ok(outcome),
            other => panic!("{other}"),
        }
    }

    pub(super) fn ask(&mut self, body: meta_command::Body) -> Result<u64, (Reason, String)> {
        self.ask_at(0, body)
    }

    pub(super) fn ask_at(
        &mut self,
        time_ms: i64,
        body: meta_command::Body,
    ) -> Result<u64, (Reason, String)> {
        let command = MetaCommand {
            time_ms,
            body: Some(body),
            ..MetaCommand::default()
        };
        match self.command(&command).unwrap().result.unwrap() {
            meta_outcome::Result::MapVersion(version) => Ok(version),
            meta_outcome::Result::Refusal(refusal) => Err((refusal.reason(), refusal.message)),
        }
    }

    fn done(&mut self, body: meta_command::Body) -> u64 {
        self.ask(body).unwrap()
    }

    fn begin(&mut self, parent: u32, first_slot: u32) -> Result<u64, (Reason, String)> {
        self.ask(meta_command::Body::BeginSplit(BeginSplit {
            parent,
            first_slot,
        }))
    }

    fn finish(&mut self, parent: u32, child: u32, epoch: u64) -> Result<u64, (Reason, String)> {
        let finish = FinishSplit {
            parent,
            child,
            epoch,
        };
        self.ask(meta_command::Body::FinishSplit(finish))
    }

    fn shard(&self, shard: u32) -> MapShard {
        self.machine
            .watch
            .borrow()
            .shard(ShardId(shard))
            .unwrap()
            .clone()
    }

    /// A restart reads the same.
    pub(super) fn is_on_disk(&self) {
        let (map, apps, kicks) = load(&*self.machine.store).unwrap();
        let read = MetaState::new(map, apps).with_kicks(kicks);
        assert_eq!(read, **self.machine.watch.borrow());
    }

    fn routes(&self) -> Vec<(u32, String, u64)> {
        let state = self.machine.watch.borrow().clone();
        let routes = state.routes().iter();
        routes
            .map(|r| (r.shard.0, r.range.to_string(), r.epoch))
            .collect()
    }
}

#[test]
fn a_child_gets_its_slots_only_when_the_split_is_finished() {
    let mut meta = Meta::new();
    meta.begin(1, 4_000).unwrap();
    let child = meta.shard(3);
    assert!(child.pending && child.parent == 1 && child.founder == 0);
    assert_eq!(child.epoch, 2);
    assert_eq!(child.replicas, [2, 1], "node 1 is the first of both others");
    assert_eq!(meta.routes()[0], (1, "0-8191".to_owned(), 1), "not yet");
    meta.finish(1, 3, 2).unwrap();
    assert_eq!(
        meta.routes(),
        [
            (1, "0-3999".to_owned(), 2),
            (3, "4000-8191".to_owned(), 2),
            (2, "8192-16383".to_owned(), 1)
        ]
    );
    // A restart reads the same.
    meta.is_on_disk();
}

#[test]
fn each_step_of_a_split_can_be_repeated() {
    let mut meta = Meta::new();
    let begun = meta.begin(1, 4_000).unwrap();
    assert_eq!(meta.begin(1, 4_000).unwrap(), begun, "the same child");
    let finished = meta.finish(1, 3, 2).unwrap();
    assert_eq!(meta.finish(1, 3, 2).unwrap(), finished);
    assert_eq!(meta.begin(1, 4_000).unwrap(), finished, "done long ago");
    meta.begin(1, 2_000).unwrap();
    meta.finish(1, 4, 3).unwrap();
    meta.begin(3, 5_000).unwrap();
    assert_eq!(meta.shard(5).epoch, 3);
    assert_eq!(meta.finish(1, 3, 2).unwrap(), meta.finish(1, 4, 3).unwrap());
}

#[test]
fn what_cannot_be_split_is_refused() {
    let mut meta = Meta::new();
    for slot in [0, 8_192, 16_383, 20_000] {
        assert_eq!(
            meta.begin(1, slot).unwrap_err().0,
            Reason::Forbidden,
            "{slot}"
        );
    }
    assert_eq!(meta.begin(9, 100).unwrap_err().0, Reason::NotFound);
    meta.begin(1, 4_000).unwrap();
    let (reason, message) = meta.begin(1, 5_000).unwrap_err();
    assert!(
        reason == Reason::Forbidden && message.contains("at slot 4000"),
        "{message}"
    );
    assert_eq!(
        meta.begin(3, 5_000).unwrap_err().0,
        Reason::Forbidden,
        "a child without slots"
    );
    assert_eq!(meta.finish(1, 3, 7).unwrap_err().0, Reason::Forbidden);
    assert_eq!(meta.finish(2, 3, 2).unwrap_err().0, Reason::Forbidden);
    assert_eq!(meta.finish(1, 8, 2).unwrap_err().0, Reason::NotFound);
    meta.begin(2, 10_000).unwrap();
}

#[test]
fn a_cluster_has_only_as_many_shards_as_were_measured() {
    let mut meta = Meta::new();
    for child in 3..=SHARD_COUNT_MAX {
        // Always the last slot of the first shard, which has thousands.
        let last = meta.shard(1).last_slot;
        meta.begin(1, last).unwrap();
        meta.finish(1, child, meta.shard(child).epoch).unwrap();
    }
    let last = meta.shard(1).last_slot;
    let (refused, _) = meta.begin(1, last).unwrap_err();
    assert_eq!(refused, Reason::Forbidden);
}

#[test]
fn a_node_that_is_replaced_during_a_split_leaves_parent_and_child() {
    let mut meta = Meta::new();
    meta.begin(1, 4_000).unwrap();
    let node = MapNode {
        node_id: 3,
        state: NodeState::Member.into(),
        ..MapNode::default()
    };
    let added = meta.done(meta_command::Body::AddNode(AddNode { node: Some(node) }));
    let replace = |map_version| {
        meta_command::Body::ReplaceNode(ReplaceNode {
            old_node_id: 1,
            new_node_id: 3,
            map_version,
        })
    };
    let (refused, _) = meta.ask(replace(added - 1)).unwrap_err();
    assert_eq!(
        refused,
        Reason::Forbidden,
        "whoever looked saw an older map"
    );
    let version = meta.done(replace(added));
    assert_eq!(meta.shard(1).replicas, [3, 2]);
    assert_eq!(meta.shard(3).replicas, [2, 3]);
    assert_eq!(meta.done(replace(added)), version, "asked again");
}

#[test]
fn the_level_rises_and_never_falls() {
    let mut meta = Meta::new();
    let mut raise = |level| {
        let version = meta.done(meta_command::Body::RaiseFeatureLevel(RaiseFeatureLevel {
            level,
        }));
        (
            version,
            meta.machine.watch.borrow().map().unwrap().feature_level,
        )
    };
    assert_eq!(raise(1), (1, 1));
    assert_eq!(raise(2), (2, 2));
    assert_eq!(raise(1), (2, 2));
}

#[test]
fn what_this_program_does_not_know_stops_the_replica_and_names_the_level() {
    let needed = |command: &MetaCommand| match Meta::new().command(command) {
        Err(StoreError::NeedsNewerVersion { level }) => level,
        other => panic!("{other:?}"),
    };
    assert_eq!(needed(&MetaCommand::default()), 3, "a kind that came later");
    let begin = BeginSplit {
        parent: 1,
        first_slot: 10,
    };
    let gated = MetaCommand {
        level: 5,
        body: Some(meta_command::Body::BeginSplit(begin)),
        ..MetaCommand::default()
    };
    assert_eq!(needed(&gated), 5);
    let raise = MetaCommand {
        body: Some(meta_command::Body::RaiseFeatureLevel(RaiseFeatureLevel {
            level: 4,
        })),
        ..MetaCommand::default()
    };
    assert_eq!(needed(&raise), 4);
}

#[test]
fn a_snapshot_of_a_newer_cluster_stops_the_replica() {
    let mut meta = Meta::new();
    let mut map = meta.machine.map.clone().unwrap();
    map.feature_level = 3;
    let mut write = WriteBatch::default();
    write.put(Table::Meta, key::cluster_map(), map.encode_to_vec());
    meta.machine.store.write(&write).unwrap();
    assert!(matches!(
        meta.machine.restored(),
        Err(StoreError::NeedsNewerVersion { level: 3 })
    ));
}

#[test]
fn an_apps_limits_are_set_as_a_whole_and_are_there_after_a_restart() {
    let mut meta = Meta::new();
    let app = App {
        app_id: "demo".into(),
        ..App::default()
    };
    meta.done(meta_command::Body::CreateApp(CreateApp { app: Some(app) }));
    let set = |app_id: &str, session_messages_per_second| {
        meta_command::Body::SetAppLimits(SetAppLimits {
            app_id: app_id.into(),
            limits: Some(AppLimits {
                session_messages_per_second,
                ..AppLimits::default()
            }),
        })
    };
    let before = meta.machine.version_now();
    meta.done(set("demo", 50));
    assert_eq!(meta.machine.version_now(), before + 1);
    meta.done(set("demo", 50));
    assert_eq!(meta.machine.version_now(), before + 1, "nothing changed");
    let (reason, _) = meta.ask(set("other", 50)).unwrap_err();
    assert_eq!(reason, Reason::NotFound);
    let (_, apps, _) = load(&*meta.machine.store).unwrap();
    let limits = apps["demo"].limits.unwrap();
    assert_eq!(limits.session_messages_per_second, 50);
}
