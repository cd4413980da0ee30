//! Applies the meta group's commands. Deterministic, as all apply code.

use std::sync::Arc;

use parlance_proto::shard::META_GROUP;
use parlance_proto::store::v1::{
    App, ClusterMap, InitCluster, MapNode, MetaCommand, MetaOutcome, MetaRefusal, NodeState,
    ReplaceNode, meta_command, meta_outcome, meta_refusal::Reason,
};
use prost::Message;
use tokio::sync::watch;

use super::MetaState;
use crate::apply::{Outcome, decode};
use crate::raft::{CommittedEntry, StateMachine};
use crate::store::{Order, StateStore, StoreError, Table, WriteSet, key};

/// The state machine of the meta group.
pub struct MetaMachine {
    store: Arc<dyn StateStore>,
    state: MetaState,
    watch: watch::Sender<Arc<MetaState>>,
}

impl MetaMachine {
    /// Reads the rows and shows them to `watch`.
    pub fn open(
        store: Arc<dyn StateStore>,
        watch: watch::Sender<Arc<MetaState>>,
    ) -> Result<Self, StoreError> {
        let state = load(&*store)?;
        watch.send_replace(Arc::new(state.clone()));
        Ok(Self {
            store,
            state,
            watch,
        })
    }

    fn apply_command(&mut self, command: MetaCommand, write: &mut WriteSet) -> MetaOutcome {
        let done = match command.body {
            Some(meta_command::Body::InitCluster(init)) => self.init_cluster(init),
            Some(meta_command::Body::CreateApp(create)) => {
                self.create_app(create.app.unwrap_or_default(), write)
            }
            Some(meta_command::Body::AddNode(add)) => self.add_node(add.node.unwrap_or_default()),
            Some(meta_command::Body::ReplaceNode(replace)) => self.replace_node(replace),
            None => Err(refusal(
                Reason::Forbidden,
                "this version does not know the command".to_owned(),
            )),
        };
        let result = match done {
            Ok(()) => {
                let map = self.state.map.get_or_insert_default();
                map.version += 1;
                write.put(
                    Table::Meta,
                    key::cluster_map(META_GROUP),
                    map.encode_to_vec(),
                );
                meta_outcome::Result::MapVersion(map.version)
            }
            Err(refusal) => meta_outcome::Result::Refusal(refusal),
        };
        MetaOutcome {
            result: Some(result),
        }
    }

    fn init_cluster(&mut self, init: InitCluster) -> Result<(), MetaRefusal> {
        if let Some(map) = &self.state.map {
            return Err(refusal(
                Reason::Exists,
                format!("the cluster {} exists already", map.cluster_id),
            ));
        }
        self.state.map = init.map;
        Ok(())
    }

    fn create_app(&mut self, app: App, write: &mut WriteSet) -> Result<(), MetaRefusal> {
        if self.state.apps.contains_key(&app.app_id) {
            return Err(refusal(
                Reason::Exists,
                format!("app {:?} exists already", app.app_id),
            ));
        }
        write.put(
            Table::Meta,
            key::app(META_GROUP, &app.app_id),
            app.encode_to_vec(),
        );
        self.state.apps.insert(app.app_id.clone(), app);
        Ok(())
    }

    fn map(&mut self) -> Result<&mut ClusterMap, MetaRefusal> {
        self.state
            .map
            .as_mut()
            .ok_or_else(|| refusal(Reason::NotFound, "there is no cluster yet".to_owned()))
    }

    fn add_node(&mut self, node: MapNode) -> Result<(), MetaRefusal> {
        let map = self.map()?;
        if map.nodes.iter().any(|n| n.node_id == node.node_id) {
            let message = format!(
                "node id {} is or was a member: a new member needs a new id",
                node.node_id
            );
            return Err(refusal(Reason::Exists, message));
        }
        map.nodes.push(node);
        Ok(())
    }

    fn replace_node(&mut self, replace: ReplaceNode) -> Result<(), MetaRefusal> {
        let (old, new) = (replace.old_node_id, replace.new_node_id);
        let map = self.map()?;
        let member = |id| {
            map.nodes
                .iter()
                .any(|n| n.node_id == id && n.state() == NodeState::Member)
        };
        for id in [old, new] {
            if !member(id) {
                return Err(refusal(
                    Reason::NotFound,
                    format!("node {id} is not a member"),
                ));
            }
        }
        let lists = map
            .shards
            .iter_mut()
            .map(|s| &mut s.replicas)
            .chain([&mut map.meta_replicas]);
        for replicas in lists {
            if replicas.contains(&new) {
                replicas.retain(|id| *id != old);
            } else {
                replicas
                    .iter_mut()
                    .filter(|id| **id == old)
                    .for_each(|id| *id = new);
            }
        }
        for shard in map.shards.iter_mut().filter(|shard| shard.founder == old) {
            shard.founder = 0;
        }
        for node in map.nodes.iter_mut().filter(|n| n.node_id == old) {
            node.set_state(NodeState::Removed);
        }
        Ok(())
    }
}

fn refusal(reason: Reason, message: String) -> MetaRefusal {
    MetaRefusal {
        reason: reason.into(),
        message,
    }
}

fn load(store: &dyn StateStore) -> Result<MetaState, StoreError> {
    let map = store.get(Table::Meta, &key::cluster_map(META_GROUP))?;
    let map = map.map(|row| decode("cluster map", &row)).transpose()?;
    let mut apps = Vec::new();
    store.scan(
        Table::Meta,
        &key::app(META_GROUP, ""),
        &key::apps_end(META_GROUP),
        Order::Rising,
        &mut |_, row| {
            apps.push(decode::<App>("app", row));
            true
        },
    )?;
    let apps = apps
        .into_iter()
        .map(|app| app.map(|app| (app.app_id.clone(), app)))
        .collect::<Result<_, _>>()?;
    Ok(MetaState { map, apps })
}

impl StateMachine for MetaMachine {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        write: &mut WriteSet,
    ) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            outcomes.push(match &entry.payload {
                None => Outcome::None,
                Some(payload) => {
                    let command = decode::<MetaCommand>("log entry of the meta group", payload)?;
                    Outcome::Meta(self.apply_command(command, write))
                }
            });
        }
        Ok(outcomes)
    }

    fn written(&mut self) {
        let state = &self.state;
        // Nodes find each other by the map, and gateways their apps, before anything is replayed: this is flushed at once.
        let version = |state: &MetaState| state.map.as_ref().map(|map| map.version);
        if version(&self.watch.borrow()) != version(state)
            && let Err(error) = self.store.flush()
        {
            tracing::error!(%error, "the cluster map could not be flushed");
        }
        self.watch.send_if_modified(|shown| {
            let changed = **shown != *state;
            if changed {
                *shown = Arc::new(state.clone());
            }
            changed
        });
    }

    fn restored(&mut self) -> Result<(), StoreError> {
        self.state = load(&*self.store)?;
        self.written();
        Ok(())
    }
}
