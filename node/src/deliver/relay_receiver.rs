//! The receiving end of relays: the leader of a user's home shard.
//!
//! It first sees to it that the user's list has the conversation as touched, so that a later login finds it, and then
//! pushes to the links that have sessions of the user. It answers when all of them have acknowledged.

use std::collections::HashSet;

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppId, ConversationId, NodeId, ShardId, UserId};
use parlance_proto::link::v1::{Publish, topic};
use parlance_proto::raft::v1::{
    RelayItem, RelayRequest, RelayResponse, RelayVerdict, ShardRelay, relay_verdict::Verdict,
};
use parlance_proto::slot::Slot;
use parlance_proto::store::v1::{TouchConversationCommand, UserConversation, UserList};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

use crate::link::{Links, Receipt};
use crate::meta::Leaders;
use crate::sabotage::{Switch, one_in};
use crate::shard::{Shard, ShardError, Shards, UserTopic};
use crate::store::key::ListKeys;
use crate::store::{StoreError, Table, decode};

/// A shard that takes longer answers that it is to be asked again: the others of the request are not held up. Longer
/// than it takes to notice a broken link.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(8);

/// Receives relays for all home shards of this node.
pub struct RelayReceiver {
    shards: Shards,
    links: Links,
    leaders: Leaders,
}

/// An item whose ids are checked.
struct Item {
    topic: UserTopic,
    slot: Slot,
    conversation_id: String,
    /// Encoded.
    publish: Bytes,
}

impl RelayReceiver {
    /// For the shards and links of this node.
    pub fn new(shards: Shards, links: Links, leaders: Leaders) -> Self {
        Self {
            shards,
            links,
            leaders,
        }
    }

    /// Delivers the items to the gateways of their users; answers when these have acknowledged.
    pub async fn receive(&self, request: RelayRequest) -> RelayResponse {
        let shards = request.shards.into_iter().map(async |relay| {
            let shard = ShardId(relay.shard);
            let received = timeout(RECEIVE_TIMEOUT, self.receive_one(shard, relay)).await;
            match received {
                Ok(Ok(())) => verdict(Verdict::Done, None),
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

    async fn receive_one(&self, id: ShardId, relay: ShardRelay) -> Result<(), ShardError> {
        let Some(shard) = self.shards.get(id) else {
            return Err(ShardError::NotLeader(None));
        };
        let leadership = *shard.raft().leadership().borrow();
        if !leadership.leading {
            return Err(ShardError::NotLeader(leadership.leader));
        }
        let turn = shard.subscriptions().push_turn().await;
        if !shard.subscriptions().is_open(leadership.term) {
            // What was split off by an earlier leader must be known here first.
            shard.raft().read_barrier().await?;
            let settled = shard.subscriptions().settle(leadership.term, &self.links);
            if !settled.await {
                return Err(ShardError::NotLeader(None));
            }
        }
        let items = relay.items.into_iter().map(checked);
        let items: Vec<Item> = items
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?;
        touch(&shard, leadership.term, &items)
            .await
            .map_err(|error| match error {
                // The next leader has the rows whole.
                ShardError::Store(error) if shard.raft().report(&error) => {
                    ShardError::NotLeader(None)
                }
                error => error,
            })?;
        let slots: Vec<Slot> = items.iter().map(|item| item.slot).collect();
        let received = publish(&shard, items);
        drop(turn);
        confirm(&shard, leadership.term, &slots).await?;
        let _ = received.await; // an error is what comes: the last receipt is gone
        Ok(())
    }
}

/// Marks the conversations as touched in their users' lists, once a generation.
async fn touch(shard: &Shard, term: u64, items: &[Item]) -> Result<(), ShardError> {
    let touched = shard.touched();
    let (mut seen, mut unknown) = (HashSet::new(), Vec::new());
    let (mut entries, mut lists) = (Vec::new(), Vec::new());
    for item in items.iter().filter(|item| !item.conversation_id.is_empty()) {
        let mark = touched.mark(term, &item.topic, &item.conversation_id);
        if touched.has(&mark) || !seen.insert(mark) {
            continue;
        }
        let (app, user) = &item.topic;
        let keys = ListKeys::new(item.slot, app, user);
        entries.push(keys.entry(&item.conversation_id));
        lists.push(keys.list());
        let command = TouchConversationCommand {
            app_id: app.into(),
            user_id: user.into(),
            conversation_id: item.conversation_id.clone(),
        };
        unknown.push((mark, command));
    }
    let found = touched_in(shard, entries, lists).await?;
    let touches = unknown.into_iter().zip(found);
    let touches = touches.map(|((mark, command), found)| async move {
        let generation = match found {
            Some(generation) => generation,
            None => shard.run(command).await?,
        };
        touched.remember(&mark, generation);
        Ok::<_, ShardError>(())
    });
    try_join_all(touches).await.map(drop)
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
        moved: false,
    }
}

/// None for an item that nobody can ever deliver: it is logged and passed over.
///
/// # Errors
/// A newer program's item: it is to be sent again until this node has been upgraded.
fn checked(item: Bytes) -> Result<Option<Item>, ShardError> {
    let parsed = RelayItem::decode(item)
        .and_then(|item| Ok((Publish::decode(item.publish.clone())?, item)))
        .map_err(|e| e.to_string());
    let (publish, item) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Ok(passed_over(&error)),
    };
    let topic = publish.topic.unwrap_or_default();
    let Some(topic::Name::UserId(user)) = topic.name else {
        return Err(newer("topic"));
    };
    let id = &item.conversation_id;
    if !id.is_empty() && ConversationId::parse(id).is_err() {
        return Err(newer("conversation"));
    }
    Ok(match (AppId::new(topic.app_id), UserId::new(user)) {
        (Ok(app), Ok(user)) => Some(Item {
            slot: Slot::of_user(&app, &user),
            topic: (app, user),
            conversation_id: item.conversation_id,
            publish: item.publish,
        }),
        (Err(error), _) | (_, Err(error)) => passed_over(&error.to_string()),
    })
}

fn passed_over(error: &str) -> Option<Item> {
    tracing::error!(error, "a relayed item is passed over");
    None
}

fn newer(what: &str) -> ShardError {
    let text = format!("this node does not know the kind of {what}: it is older than the sender");
    ShardError::Refused(Error::new(ErrorCode::Unsupported, text))
}

/// The current generation of each list, if its entry is touched in it. Reads the disk, so beside the tasks.
async fn touched_in(
    shard: &Shard,
    entries: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
) -> Result<Vec<Option<u64>>, ShardError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let store = shard.store().clone();
    let read = tokio::task::spawn_blocking(move || {
        // The lists last: what was touched in a generation that is still the current one then is touched.
        let entries = store.get_many(Table::Users, &entries)?;
        let lists = store.get_many(Table::Users, &lists)?;
        let pairs = entries.into_iter().zip(lists);
        let found = pairs.map(|pair| match pair {
            (Some(entry), Some(list)) => {
                let entry: UserConversation = decode("entry of a list", &entry)?;
                let list: UserList = decode("list", &list)?;
                Ok((entry.generation == list.generation).then_some(list.generation))
            }
            _ => Ok(None),
        });
        found.collect::<Result<_, StoreError>>()
    });
    Ok(read.await.map_err(|_| ShardError::Stopped)??)
}

/// Queues the items on the links that want them. The answer comes when all links have acknowledged or are gone.
fn publish(shard: &Shard, items: Vec<Item>) -> oneshot::Receiver<()> {
    let (receipt, received) = Receipt::new();
    for Item { topic, publish, .. } in items {
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
mod tests {
    use parlance_proto::link::v1::Topic;

    use super::*;

    fn item(conversation_id: &str, name: Option<topic::Name>) -> Bytes {
        let topic = Topic {
            app_id: "demo".into(),
            name,
        };
        let publish = Publish {
            topic: Some(topic),
            ..Publish::default()
        };
        let item = RelayItem {
            conversation_id: conversation_id.into(),
            publish: publish.encode_to_vec().into(),
        };
        item.encode_to_vec().into()
    }

    #[test]
    fn what_a_newer_node_relays_is_sent_again_and_what_nobody_can_read_is_not() {
        let user = |id: &str| Some(topic::Name::UserId(id.into()));
        assert!(checked(item("d:1:a:b", user("a"))).unwrap().is_some());
        assert!(checked(item("", user("a"))).unwrap().is_some());
        for newer in [item("", None), item("z:1", user("a"))] {
            assert!(matches!(checked(newer), Err(ShardError::Refused(_))));
        }
        for damaged in [Bytes::from_static(&[0xff; 3]), item("", user(""))] {
            assert!(checked(damaged).unwrap().is_none());
        }
    }
}
