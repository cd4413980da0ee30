//! The receiving end of relays: the leader of a user's home shard.
//!
//! It first sees to it that the user's list has the conversation as touched (`list_entries.rs`), so that a later login finds it,
//! and then pushes to the links that have sessions of the user. It answers when all of them have acknowledged. What is
//! touched already is pushed at once: it does not wait for what has to be looked up or written. What cannot be, as the disk is
//! full or does not answer, is left to the sender, and nothing else.

use std::collections::HashSet;

use bytes::Bytes;
use futures::future::{join, join_all};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    RelayRequest, RelayResponse, RelayVerdict, ShardRelay, relay_verdict::Verdict,
};
use parlance_proto::slot::Slot;
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

use super::list_entries::{Lists, is_touched, row_of};
use super::relayed::Relayed;
use crate::link::{Links, Receipt};
use crate::meta::Leaders;
use crate::sabotage::{Switch, one_in};
use crate::shard::{LatePlace, Shard, ShardError, Shards};

/// A shard that takes longer answers that it is to be asked again: the others of the request are not held up. Longer
/// than it takes to notice a broken link.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(8);

/// Receives relays for all home shards of this node.
pub struct RelayReceiver {
    shards: Shards,
    links: Links,
    leaders: Leaders,
    lists: Lists,
}

impl RelayReceiver {
    /// For the shards and links of this node.
    pub fn new(shards: Shards, links: Links, leaders: Leaders) -> Self {
        Self {
            shards,
            links,
            leaders,
            lists: Lists::new(),
        }
    }

    /// Delivers the items to the gateways of their users; answers when these have acknowledged.
    pub async fn receive(&self, request: RelayRequest) -> RelayResponse {
        let shards = request.shards.into_iter().map(async |relay| {
            let shard = ShardId(relay.shard);
            let received = timeout(RECEIVE_TIMEOUT, self.receive_one(shard, relay)).await;
            match received {
                Ok(Ok(left)) => RelayVerdict {
                    left,
                    ..verdict(Verdict::Done, None)
                },
                Ok(Err(ShardError::NotLeader(leader))) => {
                    let leader = leader.or_else(|| self.leaders.of(shard));
                    verdict(Verdict::NotLeader, leader)
                }
                Ok(Err(ShardError::Moved(_))) => RelayVerdict {
                    moved: true,
                    ..verdict(Verdict::NotLeader, None)
                },
                Ok(Err(error)) => {
                    tracing::warn!(%shard, %error, "a relay is to be sent again");
                    verdict(Verdict::Retry, None)
                }
                Err(_) => verdict(Verdict::Retry, None),
            }
        });
        RelayResponse {
            verdicts: join_all(shards).await,
        }
    }

    /// Answers the places of the items that are left.
    async fn receive_one(&self, id: ShardId, relay: ShardRelay) -> Result<Vec<u32>, ShardError> {
        let Some(shard) = self.shards.get(id) else {
            return Err(ShardError::NotLeader(None));
        };
        let leadership = *shard.raft().leadership().borrow();
        if !leadership.leading {
            return Err(ShardError::NotLeader(leadership.leader));
        }
        let order = shard.push_order();
        let turn = order.turn().await;
        if !shard.subscriptions().is_open(leadership.term) {
            // What was split off by an earlier leader must be known here first.
            shard.raft().read_barrier().await?;
            let settled = shard.subscriptions().settle(leadership.term, &self.links);
            if !settled.await {
                return Err(ShardError::NotLeader(None));
            }
        }
        let (mut at_once, mut late) = (Vec::new(), Late::default());
        for (place, item) in (0..).zip(relay.items) {
            let Some(item) = Relayed::check(item)? else {
                continue;
            };
            let entry = order.entry(&item.topic, &item.conversation_id);
            if late.entries.contains(&entry)
                || order.is_late(entry)
                || !is_touched(&shard, leadership.term, &item)
            {
                late.entries.insert(entry);
                late.items.push(LateItem { entry, place, item });
            } else {
                at_once.push(item);
            }
        }
        let in_line = order.line_up(late.entries.iter().copied().collect());
        let pushed = push(&shard, leadership.term, at_once);
        drop(turn);
        let written = self.push_late(&shard, leadership.term, late.items, in_line);
        let (pushed, written) = join(pushed, written).await;
        pushed.and(written)
    }

    /// Writes what nobody else is writing, and pushes what is written as soon as all before it is pushed. Answers the places of
    /// what cannot be written.
    async fn push_late(
        &self,
        shard: &Shard,
        term: u64,
        items: Vec<LateItem>,
        in_line: LatePlace<'_>,
    ) -> Result<Vec<u32>, ShardError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let to_write = items.iter().filter(|late| in_line.writes(late.entry));
        let to_write = to_write.map(|late| &late.item).collect();
        let written = self.lists.touch(shard, term, to_write).await?;
        in_line.has_written();
        in_line.first().await;
        let (mut to_push, mut left) = (Vec::new(), Vec::new());
        for LateItem { place, item, .. } in items {
            if written.contains(&row_of(&item)) || is_touched(shard, term, &item) {
                to_push.push(item);
            } else {
                left.push(place);
            }
        }
        let pushed = push(shard, term, to_push);
        drop(in_line);
        pushed.await?;
        Ok(left)
    }
}

/// What has to be written into lists before it is pushed.
#[derive(Default)]
struct Late {
    entries: HashSet<u64>,
    items: Vec<LateItem>,
}

struct LateItem {
    /// In the order of pushes.
    entry: u64,
    /// In its relay.
    place: u32,
    item: Relayed,
}

/// Queues the items on the links that want them, at once; what it answers waits until their gateways have them.
fn push(
    shard: &Shard,
    term: u64,
    items: Vec<Relayed>,
) -> impl Future<Output = Result<(), ShardError>> {
    let slots: Vec<Slot> = items.iter().map(|item| item.slot).collect();
    let received = publish(shard, items);
    async move {
        confirm(shard, term, &slots).await?;
        let _ = received.await; // an error is what comes: the last receipt is gone
        Ok(())
    }
}

/// Still leading in the same term, and still the owner, after the push: so nobody had subscribed to another leader, or in
/// another term, before it.
async fn confirm(shard: &Shard, term: u64, slots: &[Slot]) -> Result<(), ShardError> {
    if shard.subscriptions().is_splitting() || !shard.raft().holds_lease() {
        shard.raft().read_barrier().await?;
    }
    if shard.raft().term() != term || !shard.subscriptions().is_open(term) {
        return Err(ShardError::NotLeader(None));
    }
    let range = shard.range();
    if slots.iter().all(|slot| range.contains(*slot)) {
        return Ok(());
    }
    Err(ShardError::Moved(range))
}

fn verdict(verdict: Verdict, leader: Option<NodeId>) -> RelayVerdict {
    RelayVerdict {
        verdict: verdict.into(),
        leader_node_id: NodeId::or_zero(leader),
        ..RelayVerdict::default()
    }
}

/// Queues the items on the links that want them. The answer comes when all links have acknowledged or are gone.
fn publish(shard: &Shard, items: Vec<Relayed>) -> oneshot::Receiver<()> {
    let (receipt, received) = Receipt::new();
    for Relayed { topic, publish, .. } in items {
        let links = shard.subscriptions().links(&topic);
        if links.is_empty() {
            continue;
        }
        // Copied: a part of the request would keep the whole in memory, above the links' bounds.
        let publish = Bytes::copy_from_slice(&publish);
        if one_in(10, Switch::DropPushes) {
            continue;
        }
        for link in links {
            link.publish(publish.clone(), receipt.clone());
        }
    }
    received
}

#[cfg(test)]
mod tests;
