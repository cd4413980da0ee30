//! Splits a shard: the meta shard allots the child, the parent's log has the split, the map follows.
//!
//! Each step can be repeated, by whoever asked or by the parent's leader (`tend.rs`), which finishes what was cut off.

use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ShardId;
use parlance_proto::raft::v1::{SplitRequest, SplitResponse};
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::{BeginSplit, FinishSplit, MapShard, SplitCommand, meta_command};
use tokio::time::{Duration, Instant, sleep};

use super::meta_client::MetaClient;
use super::view::ClusterView;
use crate::meta::MetaState;
use crate::raft::{Lane, PeerLink, ask};
use crate::shard::Shard;

/// How long a split may take as a whole; what is left then is done in the background.
const TIMEOUT: Duration = Duration::from_secs(45);
/// How long the parent's leader may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Between tries.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Splits shards.
pub struct Splitter {
    pub(super) view: ClusterView,
    pub(super) meta_client: MetaClient,
    pub(super) peers: Arc<dyn PeerLink>,
}

/// A split as the parent's log is to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    parent: ShardId,
    child: ShardId,
    first_slot: u32,
    last_slot: u32,
    epoch: u64,
}

/// What a split came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitDone {
    /// The new shard.
    pub child: ShardId,
    /// Its slots.
    pub range: SlotRange,
    /// The map has both ranges from this version on.
    pub map_version: u64,
}

impl Split {
    pub(super) fn of(child: &MapShard) -> Self {
        Self {
            parent: ShardId(child.parent),
            child: child.id(),
            first_slot: child.first_slot,
            last_slot: child.last_slot,
            epoch: child.epoch,
        }
    }
}

impl Splitter {
    /// Splits a shard at a slot, or in the middle; answers when the map has it and the child has a leader. Asked again
    /// with the same slot it is the same split; without a slot, a split that is finished is followed by another.
    ///
    /// # Errors
    /// What cannot be split; a parent that has no leader, or moves, for too long: then it goes on in the background, and
    /// the same may be asked again.
    pub async fn split(
        &self,
        parent: ShardId,
        first_slot: Option<u32>,
    ) -> Result<SplitDone, Error> {
        let deadline = Instant::now() + TIMEOUT;
        let first_slot = match first_slot {
            Some(slot) => slot,
            None => default_slot(&self.view.state(), parent)?,
        };
        let begin = BeginSplit {
            parent: parent.0,
            first_slot,
        };
        self.meta_client
            .propose(meta_command::Body::BeginSplit(begin))
            .await?;
        let child = child_at(&self.view.state(), parent, first_slot)?;
        let split = Split::of(&child);
        let mut map_version = self.view.state().version();
        if child.pending {
            self.propose_until(&split, deadline).await?;
            map_version = self.finish(&split).await?;
        }
        loop {
            let child = child_at(&self.view.state(), parent, first_slot).ok();
            let finished = child.filter(|child| !child.pending);
            let leads = self.view.leaders.of(split.child).is_some();
            if let Some(range) = finished.filter(|_| leads).and_then(|child| child.range()) {
                return Ok(SplitDone {
                    child: split.child,
                    range,
                    map_version,
                });
            }
            if Instant::now() > deadline {
                return Err(late(&split, "the new shard has no leader yet"));
            }
            sleep(RETRY_DELAY).await;
        }
    }

    /// Finishes a split that the map has as pending, at the parent's leader.
    pub(super) async fn resume(&self, parent: &Shard, split: &Split) -> Result<(), Error> {
        propose(parent, split).await?;
        self.finish(split).await?;
        Ok(())
    }

    /// Another node asks this one, which it takes for the parent's leader.
    pub(super) async fn requested(&self, parent: ShardId, request: SplitRequest) -> SplitResponse {
        let split = Split {
            parent,
            child: ShardId(request.child),
            first_slot: request.first_slot,
            last_slot: request.last_slot,
            epoch: request.epoch,
        };
        SplitResponse {
            error: self.propose_here(&split).await.err(),
        }
    }

    async fn propose_until(&self, split: &Split, deadline: Instant) -> Result<(), Error> {
        loop {
            let Err(error) = self.propose_once(split).await else {
                return Ok(());
            };
            // A shard that is being moved, or that has much to deliver, takes the split a little later.
            if Instant::now() > deadline {
                return Err(late(split, &error.message));
            }
            sleep(RETRY_DELAY).await;
        }
    }

    async fn propose_once(&self, split: &Split) -> Result<(), Error> {
        let Some(leader) = self.view.leaders.of(split.parent) else {
            return Err(no_leader(split.parent));
        };
        if leader == self.view.node_id {
            return self.propose_here(split).await;
        }
        let request = SplitRequest {
            child: split.child.0,
            first_slot: split.first_slot,
            last_slot: split.last_slot,
            epoch: split.epoch,
        };
        let (lane, parent) = (Lane::Control, split.parent);
        let call = ask(&*self.peers, leader, lane, parent, request, CALL_TIMEOUT);
        match call.await {
            Ok(response) => response.error.map_or(Ok(()), Err),
            Err(error) => Err(Error::new(ErrorCode::Unavailable, error.to_string())),
        }
    }

    async fn propose_here(&self, split: &Split) -> Result<(), Error> {
        let parent = self.view.shards.get(split.parent);
        let parent = parent.ok_or_else(|| no_leader(split.parent))?;
        propose(&parent, split).await
    }

    async fn finish(&self, split: &Split) -> Result<u64, Error> {
        let finish = FinishSplit {
            parent: split.parent.0,
            child: split.child.0,
            epoch: split.epoch,
        };
        self.meta_client
            .propose(meta_command::Body::FinishSplit(finish))
            .await
    }
}

/// Puts the split into the parent's log; one that is there already is done.
async fn propose(parent: &Shard, split: &Split) -> Result<(), Error> {
    Ok(parent
        .split(SplitCommand {
            child: split.child.0,
            first_slot: split.first_slot,
            last_slot: split.last_slot,
            epoch: split.epoch,
        })
        .await?)
}

fn no_leader(shard: ShardId) -> Error {
    let message = format!("shard {shard} has no leader that could be reached");
    Error::new(ErrorCode::Unavailable, message)
}

fn late(split: &Split, why: &str) -> Error {
    let message = format!(
        "the split of shard {} into shard {} is still in progress: {why}. See parlance cluster status, or ask again",
        split.parent, split.child
    );
    Error::new(ErrorCode::Unavailable, message)
}

fn not_found(parent: ShardId) -> Error {
    Error::new(ErrorCode::NotFound, format!("there is no shard {parent}"))
}

/// The split that is under way, so that asking again asks for the same; else the middle.
fn default_slot(state: &MetaState, parent: ShardId) -> Result<u32, Error> {
    let shard = state.shard(parent).ok_or_else(|| not_found(parent))?;
    let mut children = state.shards().iter();
    if let Some(child) = children.find(|child| child.parent_id() == Some(parent) && child.pending) {
        return Ok(child.first_slot);
    }
    let middle = shard.range().and_then(SlotRange::middle);
    let middle = middle.map(Slot::number).map(u32::from);
    middle.ok_or_else(|| {
        let message = format!("shard {parent} owns a single slot and cannot be split");
        Error::new(ErrorCode::PreconditionFailed, message)
    })
}

fn child_at(state: &MetaState, parent: ShardId, first_slot: u32) -> Result<MapShard, Error> {
    let mut children = state.shards().iter();
    let child =
        children.find(|child| child.parent_id() == Some(parent) && child.first_slot == first_slot);
    child.cloned().ok_or_else(|| {
        let message = "this node does not have the new map yet: ask again";
        Error::new(ErrorCode::Unavailable, message)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parlance_proto::store::v1::ClusterMap;

    use super::*;

    #[test]
    fn a_split_without_a_slot_is_the_one_under_way_or_the_middle() {
        let shard = |shard, first_slot, last_slot, parent, pending| MapShard {
            shard,
            first_slot,
            last_slot,
            parent,
            pending,
            ..MapShard::default()
        };
        let map = ClusterMap {
            shards: vec![
                shard(1, 0, 99, 0, false),
                shard(2, 100, 199, 0, false),
                shard(3, 30, 99, 1, true),
                shard(4, 200, 200, 0, false),
            ],
            ..ClusterMap::default()
        };
        let state = MetaState::new(Some(map), BTreeMap::new());
        assert_eq!(default_slot(&state, ShardId(1)).unwrap(), 30);
        assert_eq!(default_slot(&state, ShardId(2)).unwrap(), 150);
        assert_eq!(
            default_slot(&state, ShardId(4)).unwrap_err().code(),
            ErrorCode::PreconditionFailed
        );
        assert_eq!(
            default_slot(&state, ShardId(9)).unwrap_err().code(),
            ErrorCode::NotFound
        );
        assert_eq!(child_at(&state, ShardId(1), 30).unwrap().shard, 3);
        assert!(child_at(&state, ShardId(1), 31).is_err());
    }
}
