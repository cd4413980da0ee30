//! The receiving end of relays: the leader of a user's home shard.
//!
//! It first sees to it that the conversation is in the user's list, so that a later login finds it, and then pushes to
//! the links that have sessions of the user. It answers when all of them have acknowledged.

use std::collections::HashSet;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use parlance_proto::raft::v1::{
    RelayItem, RelayRequest, RelayResponse, RelayVerdict, ShardRelay, relay_verdict::Verdict,
};
use parlance_proto::shard::shard_group;
use parlance_proto::store::v1::{AddConversationCommand, Command, command};
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

use crate::link::{Links, Receipt};
use crate::meta::Leaders;
use crate::shard::{Shard, ShardError, Shards};
use crate::store::{StoreError, Table, key};

/// A shard that takes longer answers that it is to be asked again: the others of the request are not held up. Longer
/// than it takes to notice a broken link.
const TAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// Conversations put into lists by one proposal.
const LIST_COMMANDS_MAX: usize = 64;
/// List entries remembered as present, so that most relays read no row.
const LISTED_MAX: usize = 256 * 1024;

/// Takes relays for all home shards of this node.
pub struct Home {
    shards: Shards,
    links: Links,
    leaders: Leaders,
    listed: Mutex<HashSet<[u8; 16]>>,
}

impl Home {
    /// For the shards and links of this node.
    pub fn new(shards: Shards, links: Links, leaders: Leaders) -> Self {
        Self {
            shards,
            links,
            leaders,
            listed: Mutex::default(),
        }
    }

    /// Delivers the items to the gateways of their users; answers when these have acknowledged.
    pub async fn take(&self, request: RelayRequest) -> RelayResponse {
        let shards = request.shards.into_iter().map(async |relay| {
            let taken = timeout(TAKE_TIMEOUT, self.take_one(relay)).await;
            taken.unwrap_or_else(|_| RelayVerdict {
                verdict: Verdict::Retry.into(),
                leader_node_id: 0,
            })
        });
        RelayResponse {
            verdicts: join_all(shards).await,
        }
    }

    async fn take_one(&self, relay: ShardRelay) -> RelayVerdict {
        let verdict = |verdict: Verdict, leader: Option<u64>| RelayVerdict {
            verdict: verdict.into(),
            leader_node_id: leader.unwrap_or(0),
        };
        let group = shard_group(relay.shard);
        let not_leader = || verdict(Verdict::NotLeader, self.leaders.of(group));
        let Some(shard) = self.shards.get(relay.shard) else {
            return not_leader();
        };
        let leadership = *shard.raft().leadership().borrow();
        if !leadership.leading {
            return not_leader();
        }
        shard.topics().settle(leadership.term, &self.links).await;
        match self.list(&shard, &relay.items).await {
            Ok(()) => {}
            Err(ShardError::NotLeader(_)) => return not_leader(),
            Err(error) => {
                tracing::warn!(shard = shard.number(), %error, "a relay is to be sent again: the conversation lists could not be written");
                return verdict(Verdict::Retry, None);
            }
        }
        let received = publish(&shard, relay.items);
        // Still leading after the push: so nobody had subscribed to a newer leader before it.
        if !shard.raft().holds_lease() && shard.raft().read_barrier().await.is_err() {
            return not_leader();
        }
        let _ = received.await;
        verdict(Verdict::Done, None)
    }

    /// Puts the conversations into their users' lists, where they are missing.
    async fn list(&self, shard: &Shard, items: &[RelayItem]) -> Result<(), ShardError> {
        let mut missing = Vec::new();
        let mut marks = HashSet::new();
        for item in items {
            let mark = list_mark(item);
            if marks.contains(&mark) || self.listed.lock().contains(&mark) {
                continue;
            }
            if !is_listed(shard, item)? {
                missing.push(Command {
                    body: Some(command::Body::AddConversation(AddConversationCommand {
                        app_id: item.app_id.clone(),
                        user_id: item.user_id.clone(),
                        conversation_id: item.conversation_id.clone(),
                    })),
                });
            }
            marks.insert(mark);
        }
        for commands in missing.chunks(LIST_COMMANDS_MAX) {
            shard.submit_and_wait(commands.to_vec()).await?;
        }
        if !marks.is_empty() {
            let mut listed = self.listed.lock();
            if listed.len() > LISTED_MAX {
                listed.clear();
            }
            listed.extend(marks);
        }
        Ok(())
    }
}

fn is_listed(shard: &Shard, item: &RelayItem) -> Result<bool, StoreError> {
    let place = key::user_conversation(
        shard.group(),
        &item.app_id,
        &item.user_id,
        &item.conversation_id,
    );
    Ok(shard.store().get(Table::Users, &place)?.is_some())
}

fn list_mark(item: &RelayItem) -> [u8; 16] {
    let mut hash = blake3::Hasher::new();
    for part in [&item.app_id, &item.user_id, &item.conversation_id] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    let mut mark = [0; 16];
    mark.copy_from_slice(hash.finalize().as_bytes().split_at(16).0);
    mark
}

/// Queues the publishes on the links that want them. The answer comes when all links have acknowledged or are gone.
fn publish(shard: &Shard, items: Vec<RelayItem>) -> oneshot::Receiver<()> {
    let (receipt, received) = Receipt::new();
    for item in items {
        let links = shard.topics().links(&(item.app_id, item.user_id));
        if links.is_empty() {
            continue;
        }
        // A copy of its own: it may wait long, and would hold the whole frame that it came in.
        let publish = Bytes::copy_from_slice(&item.publish);
        for link in links {
            link.publish(publish.clone(), receipt.clone());
        }
    }
    received
}
