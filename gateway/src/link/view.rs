//! The cluster's state, merged from what several nodes tell: the highest map version and, for each shard, the
//! leader with the highest term. A hint (`NotLeader`) counts until a newer term is heard of.

use std::collections::{BTreeMap, HashMap};

use parlance_proto::limits::SHARD_COUNT_MAX;
use parlance_proto::link::v1::ClusterState;

use crate::token::AppSecrets;

/// What this gateway knows of the cluster.
#[derive(Debug, Default)]
pub struct View {
    /// Empty until the first state.
    pub cluster_id: String,
    /// 0 until the first state.
    pub shard_count: u32,
    /// Link addresses by node.
    pub nodes: BTreeMap<u64, String>,
    /// Apps by id.
    pub apps: HashMap<String, AppSecrets>,
    /// Link sessions that are up, by node: the number changes with every session that was not resumed.
    pub link_sessions: HashMap<u64, u64>,
    map_version: u64,
    leaders: Vec<Leader>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Leader {
    node_id: u64,
    term: u64,
    hint: u64,
}

/// A state that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The node belongs to another cluster.
    #[error("the node belongs to cluster {0:?}, not to ours")]
    OtherCluster(String),
    /// Shards are fixed for the life of a cluster.
    #[error("{0} shards are not allowed here")]
    ShardCount(u32),
}

impl View {
    /// Takes what is newer; false if nothing was.
    pub fn merge(&mut self, state: ClusterState) -> Result<bool, MergeError> {
        if state.shard_count == 0 {
            return Ok(false); // a node that is not a member of a cluster yet
        }
        if state.shard_count > SHARD_COUNT_MAX {
            return Err(MergeError::ShardCount(state.shard_count));
        }
        let mut changed = false;
        if self.shard_count == 0 {
            self.cluster_id = state.cluster_id;
            self.shard_count = state.shard_count;
            self.leaders = vec![Leader::default(); state.shard_count as usize];
            changed = true;
        } else if self.cluster_id != state.cluster_id {
            return Err(MergeError::OtherCluster(state.cluster_id));
        } else if self.shard_count != state.shard_count {
            return Err(MergeError::ShardCount(state.shard_count));
        }
        if state.map_version > self.map_version || self.nodes.is_empty() {
            self.map_version = state.map_version;
            self.nodes = state
                .nodes
                .into_iter()
                .map(|n| (n.node_id, n.link_address))
                .collect();
            self.apps = state
                .apps
                .into_iter()
                .map(|app| {
                    let secrets = app.secrets.into_iter().map(|s| s.secret).collect();
                    (
                        app.app_id,
                        AppSecrets {
                            secrets,
                            disabled: app.disabled,
                        },
                    )
                })
                .collect();
            changed = true;
        }
        for leader in state.leaders {
            changed |= self.lead(leader.shard, leader.node_id, leader.term);
        }
        Ok(changed)
    }

    /// A leader was heard of; true if that is news.
    pub fn lead(&mut self, shard: u32, node_id: u64, term: u64) -> bool {
        let Some(known) = self.leaders.get_mut(shard as usize) else {
            return false;
        };
        let newer = term > known.term || (term == known.term && known.node_id == 0);
        if !newer || node_id == 0 {
            return false;
        }
        *known = Leader {
            node_id,
            term,
            hint: 0,
        };
        true
    }

    /// Node `asked` said that `leader` leads; true if that changes the route.
    pub fn hint(&mut self, shard: u32, asked: u64, leader: u64) -> bool {
        let before = self.leader(shard);
        if let Some(known) = self.leaders.get_mut(shard as usize) {
            if leader != 0 && leader != asked {
                known.hint = if leader == known.node_id { 0 } else { leader };
            } else if known.hint == asked {
                known.hint = 0;
            }
        }
        before != self.leader(shard)
    }

    /// The node to ask.
    pub fn leader(&self, shard: u32) -> Option<u64> {
        let known = self.leaders.get(shard as usize)?;
        Some(if known.hint == 0 {
            known.node_id
        } else {
            known.hint
        })
        .filter(|id| *id != 0)
    }

    /// The newest term heard of.
    pub fn term(&self, shard: u32) -> u64 {
        self.leaders.get(shard as usize).map_or(0, |l| l.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_proto::link::v1::ShardLeader;

    fn state(term: u64, node_id: u64) -> ClusterState {
        ClusterState {
            cluster_id: "c".into(),
            shard_count: 2,
            leaders: vec![ShardLeader {
                shard: 1,
                node_id,
                term,
            }],
            ..ClusterState::default()
        }
    }

    #[test]
    fn highest_term_wins_and_ends_a_hint() {
        let mut view = View::default();
        assert!(view.merge(state(2, 1)).unwrap());
        assert!(view.hint(1, 1, 3));
        assert_eq!(view.leader(1), Some(3));
        view.merge(state(1, 2)).unwrap();
        assert_eq!(view.leader(1), Some(3), "an older term is no news");
        view.merge(state(3, 2)).unwrap();
        assert_eq!(view.leader(1), Some(2));
        assert_eq!(view.leader(0), None);
    }

    #[test]
    fn a_wrong_hint_falls_back_and_other_clusters_are_refused() {
        let mut view = View::default();
        view.merge(state(2, 1)).unwrap();
        view.hint(1, 1, 3);
        assert!(view.hint(1, 3, 0));
        assert_eq!(view.leader(1), Some(1));
        assert!(
            view.merge(ClusterState {
                cluster_id: "d".into(),
                ..state(3, 1)
            })
            .is_err()
        );
        assert!(
            view.merge(ClusterState {
                shard_count: 3,
                ..state(3, 1)
            })
            .is_err()
        );
    }
}
