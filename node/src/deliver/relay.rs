//! Relays one shard's effects to the home shards of the conversation's members, while this node leads the shard.
//!
//! A new leader begins with the outbox rows behind the watermark, then follows the feed.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parlance_proto::client::v1::ReadCursor;
use parlance_proto::ids::DirectConversation;
use parlance_proto::link::v1::{Publish, Topic, publish, topic};
use parlance_proto::raft::v1::RelayItem;
use parlance_proto::store::v1::{OutboxBatch, OutboxItem, ReadPosition, StoredEvent, outbox_item};
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::feed::Fed;
use super::relayer::Relayer;
use super::watermark::Watermark;
use crate::apply::{Effect, EffectBody, decode, encoded_event, shard_state};
use crate::raft::Leadership;
use crate::shard::Shard;
use crate::store::{Order, StateStore, StoreError, Table, key};

/// Items taken from the feed, or read from outbox rows, at once; the last row may have more.
const ITEMS_MAX: usize = 1024;

/// Runs until `stop`: waits to lead, relays while leading, waits again. `relayed` is where the proposer finds the
/// watermark.
pub async fn relay_while_leading(
    shard: Arc<Shard>,
    relayer: Arc<Relayer>,
    relayed: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let mut leadership = shard.raft().leadership();
    loop {
        let Some(Some(term)) = stop.run_until_cancelled(term_begins(&mut leadership)).await else {
            return;
        };
        shard.feed().open();
        tokio::select! {
            () = stop.cancelled() => {}
            () = term_ends(shard.raft().leadership(), term) => {}
            failed = relay_one_term(&shard, &relayer, &relayed) => {
                let error = failed.map_or_else(|e| e.to_string(), |never| match never {});
                tracing::error!(shard = shard.number(), %error, "relay stopped until the next term: the outbox cannot be read");
                term_ends(shard.raft().leadership(), term).await;
            }
        }
        shard.feed().close();
        shard.topics().clear(term);
    }
}

async fn term_begins(leadership: &mut watch::Receiver<Leadership>) -> Option<u64> {
    leadership
        .wait_for(|now| now.leading)
        .await
        .ok()
        .map(|now| now.term)
}

async fn term_ends(mut leadership: watch::Receiver<Leadership>, term: u64) {
    // An error means that the replica has stopped, which ends the term too.
    let _ = leadership
        .wait_for(|now| !now.leading || now.term != term)
        .await;
}

enum Never {}

/// Cancels the watermark of a term when the term's future is dropped.
struct Term(Arc<Watermark>);

impl Drop for Term {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn relay_one_term(
    shard: &Shard,
    relayer: &Relayer,
    relayed: &Arc<AtomicU64>,
) -> Result<Never, StoreError> {
    // What was committed in earlier terms must be applied here before the outbox is complete.
    while shard.raft().read_barrier().await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let done = shard_state(&**shard.store(), shard.group())?.relayed;
    let term = Term(Watermark::new(done, relayed.clone()));
    let watermark = &term.0;
    relay_rows(shard, relayer, watermark).await?;
    loop {
        match shard.feed().next(ITEMS_MAX).await {
            Fed::Effects(effects) => {
                for effect in effects {
                    // What the rows had already is in the feed too.
                    if effect.number > watermark.next_number() {
                        relay_rows(shard, relayer, watermark).await?;
                    }
                    if effect.number == watermark.next_number() {
                        relay_effect(relayer, watermark, effect).await;
                    }
                }
            }
            Fed::Gap => relay_rows(shard, relayer, watermark).await?,
        }
    }
}

/// Relays all outbox rows from the next number on.
async fn relay_rows(
    shard: &Shard,
    relayer: &Relayer,
    watermark: &Arc<Watermark>,
) -> Result<(), StoreError> {
    loop {
        let items = outbox_items(shard, watermark.next_number())?;
        if items.is_empty() {
            return Ok(());
        }
        for (number, item) in items {
            let effect = effect_of_row(&**shard.store(), shard.group(), number, item)?;
            relay_effect(relayer, watermark, effect).await;
        }
    }
}

/// The items from number `from` on.
fn outbox_items(shard: &Shard, from: u64) -> Result<Vec<(u64, OutboxItem)>, StoreError> {
    let mut items = Vec::new();
    let mut damage = None;
    let (start, end) = (
        key::outbox(shard.group(), from),
        key::outbox(shard.group(), u64::MAX),
    );
    shard.store().scan(
        Table::Outbox,
        &start,
        &end,
        Order::Rising,
        &mut |key, row| match numbered_items(key, row) {
            Ok(row) => {
                items.extend(row.into_iter().filter(|(number, _)| *number >= from));
                items.len() < ITEMS_MAX
            }
            Err(error) => {
                damage = Some(error);
                false
            }
        },
    )?;
    damage.map_or(Ok(items), Err)
}

/// The items of a row with their numbers.
fn numbered_items(key: &[u8], row: &[u8]) -> Result<Vec<(u64, OutboxItem)>, StoreError> {
    let damaged = |reason: &str| StoreError::Damaged {
        what: "outbox row".to_owned(),
        reason: reason.to_owned(),
    };
    let last = key::outbox_number(key).ok_or_else(|| damaged("its key is too short"))?;
    let items = decode::<OutboxBatch>("outbox row", row)?.items;
    let before = last
        .checked_sub(items.len() as u64)
        .ok_or_else(|| damaged("it has more items than were numbered"))?;
    Ok((before + 1..).zip(items).collect())
}

fn effect_of_row(
    store: &dyn StateStore,
    group: u32,
    number: u64,
    item: OutboxItem,
) -> Result<Effect, StoreError> {
    let missing = |what: String| StoreError::Damaged {
        what,
        reason: "the row is missing".to_owned(),
    };
    let (app, conversation) = (&item.app_id, &item.conversation_id);
    let body = match item.body {
        Some(outbox_item::Body::EventSeq(seq)) => {
            let row = store.get(Table::Events, &key::event(group, app, conversation, seq))?;
            let row = row.ok_or_else(|| missing(format!("event {seq} of outbox item {number}")))?;
            let stored = decode::<StoredEvent>("event", &row)?;
            EffectBody::Event {
                event: encoded_event(conversation, seq, stored),
                except_session_id: String::new(),
            }
        }
        Some(outbox_item::Body::ReadCursorUser(user)) => {
            let row = store.get(
                Table::Members,
                &key::member(group, app, conversation, &user),
            )?;
            let row =
                row.ok_or_else(|| missing(format!("read position of outbox item {number}")))?;
            let read_seq = decode::<ReadPosition>("read position", &row)?.read_seq;
            EffectBody::ReadCursor(ReadCursor {
                conversation_id: conversation.clone(),
                user_id: user,
                read_seq,
            })
        }
        None => return Err(missing(format!("body of outbox item {number}"))),
    };
    Ok(Effect {
        number,
        app_id: item.app_id,
        conversation_id: item.conversation_id,
        body,
    })
}

/// Takes the next item on its way; waits while too much is.
async fn relay_effect(relayer: &Relayer, watermark: &Arc<Watermark>, effect: Effect) {
    watermark.wait_for_room().await;
    let Ok(members) = DirectConversation::parse(&effect.conversation_id) else {
        tracing::error!(
            number = effect.number,
            "outbox item of an unknown kind of conversation skipped"
        );
        watermark.begin(0, 0);
        return;
    };
    let (except_session_id, body) = match effect.body {
        EffectBody::Event {
            event,
            except_session_id,
        } => (except_session_id, publish::Body::Event(event)),
        EffectBody::ReadCursor(cursor) => (String::new(), publish::Body::ReadCursor(cursor)),
    };
    let items = [members.first(), members.second()].map(|user| {
        let publish = Publish {
            topic: Some(Topic {
                app_id: effect.app_id.clone(),
                name: Some(topic::Name::UserId(user.to_owned())),
            }),
            except_session_id: except_session_id.clone(),
            body: Some(body.clone()),
        };
        RelayItem {
            app_id: effect.app_id.clone(),
            user_id: user.to_owned(),
            conversation_id: effect.conversation_id.clone(),
            publish: publish.encode_to_vec().into(),
        }
    });
    let bytes = items.iter().map(|item| item.publish.len()).sum();
    let deliveries = watermark.begin(2, bytes);
    for (item, delivery) in items.into_iter().zip(deliveries) {
        relayer.send(item, delivery).await;
    }
}
