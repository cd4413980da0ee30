//! Reads one shard's outbox, while this node leads the shard, and sends each item to the home shards of its audience.
//!
//! A new leader begins with the rows behind the watermark, then follows the feed. Items of slots that a split has given to a
//! child are the child's: it got them with the split.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use parlance_proto::ids::{AppId, ConversationId, ShardId, UserId};
use parlance_proto::link::v1::{Publish, Topic, topic};
use parlance_proto::raft::v1::RelayItem;
use parlance_proto::slot::Slot;
use parlance_proto::store::v1::{Consumer, OutboxItem, StoredEvent, outbox_item};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::relay_sender::RelaySender;
use super::under_way::{Aside, UnderWay};
use crate::apply::{Effect, OwnedRange, frame_of_event, shard_state, undelivered, watermark};
use crate::conversation::{Audience, audience};
use crate::metrics;
use crate::raft::Leadership;
use crate::shard::{Fed, Shard, StoreRows};
use crate::store::key::ConversationKeys;
use crate::store::{StateStore, StoreError, Table, decode};

/// Items taken from the feed at once.
const ITEMS_MAX: usize = 1024;
/// Items that were set aside taken up at once.
const AGAIN_ITEMS_MAX: usize = 256;
/// Items read from outbox rows, with their events, at once; the last row may have more.
const ROWS_MAX: usize = 64;
/// Between tries to make sure that this node leads.
const BARRIER_DELAY: Duration = Duration::from_millis(20);
/// Before an outbox that could not be read is read again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Runs until `stop`: waits to lead, delivers while leading, waits again.
pub async fn deliver_while_leading(
    shard: Arc<Shard>,
    sender: Arc<RelaySender>,
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
            () = deliver_while_it_lasts(&shard, &sender) => {}
        }
        shard.feed().close();
        shard.subscriptions().clear(term);
    }
}

/// A disk that fails for a moment does not end delivery: it begins again behind the watermark.
async fn deliver_while_it_lasts(shard: &Shard, sender: &RelaySender) {
    loop {
        let Err(error) = deliver_one_term(shard, sender).await;
        metrics::outbox_read_failed();
        shard.raft().report(&error);
        tracing::error!(shard = %shard.id(), %error, "the outbox cannot be read, and is tried again: pushes wait");
        sleep(RETRY_DELAY).await;
        shard.feed().open();
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

/// Gives up what a term has under way when the term's future is dropped.
struct Term(Arc<UnderWay>);

impl Drop for Term {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn deliver_one_term(shard: &Shard, sender: &RelaySender) -> Result<Infallible, StoreError> {
    // What was committed in earlier terms must be applied here before the outbox is complete.
    while shard.raft().read_barrier().await.is_err() {
        sleep(BARRIER_DELAY).await;
    }
    let state = shard_state(&**shard.store(), shard.id())?;
    let done = watermark(&state, Consumer::Relay);
    let term = Term(UnderWay::new(
        Consumer::Relay,
        done,
        shard.marks().clone(),
        sender.budget(),
    ));
    let reader = Reader {
        shard,
        sender,
        under_way: &term.0,
    };
    let mut freed = sender.freed();
    reader.rows().await?;
    let mut again = false;
    loop {
        tokio::select! {
            fed = shard.feed().next(ITEMS_MAX) => reader.fed(fed).await?,
            _ = freed.changed() => again = true,
            () = std::future::ready(()), if again => {}
        }
        // A part at a time: what is new does not wait for it.
        if again {
            again = reader.take_up().await?;
        }
    }
}

struct Reader<'a> {
    shard: &'a Shard,
    sender: &'a RelaySender,
    under_way: &'a Arc<UnderWay>,
}

impl Reader<'_> {
    async fn fed(&self, fed: Fed) -> Result<(), StoreError> {
        let Fed::Effects(effects) = fed else {
            return self.rows().await;
        };
        for effect in effects {
            // What the rows had already is in the feed too.
            if effect.number > self.under_way.next_number() {
                self.rows().await?;
            }
            if effect.number == self.under_way.next_number() {
                self.deliver(effect).await;
            }
        }
        Ok(())
    }

    /// Takes up a part of what was set aside for homes that are parked no more. Answers whether there is more.
    async fn take_up(&self) -> Result<bool, StoreError> {
        let store = &**self.shard.store();
        for (home, aside) in self.under_way.aside() {
            let mut first = aside.first;
            let items = undelivered(store, self.shard.id(), first - 1, AGAIN_ITEMS_MAX)?;
            let items = items.into_iter().filter(|(n, _)| *n <= aside.last);
            for (number, item) in items {
                if self.sender.is_parked(home) {
                    break;
                }
                self.under_way.wait_for_room().await;
                let effect = effect_of_row(store, &self.shard.range(), number, item)?;
                self.deliver_again(home, &aside, (first, number), effect)
                    .await;
                first = number + 1;
            }
            if first == aside.first && !self.sender.is_parked(home) {
                // No row of it is left.
                let nothing = (0, 0);
                let none = self.under_way.begin_again(home, first, aside.last, nothing);
                drop(none);
            }
        }
        let aside = self.under_way.aside();
        Ok(aside.iter().any(|(home, _)| !self.sender.is_parked(*home)))
    }

    /// Delivers an item, in which there is nothing if it has moved, to the users of one home.
    async fn deliver_again(
        &self,
        home: ShardId,
        aside: &Aside,
        (first, number): (u64, u64),
        effect: Option<Effect>,
    ) {
        let users = |effect: &Effect| -> Vec<(Slot, Bytes)> {
            let Audience::Users(users) = &effect.audience;
            let slots = users.iter().map(|user| Slot::of_user(&effect.app, user));
            let to = users.iter().zip(slots);
            to.filter(|(_, slot)| aside.slots.contains(*slot))
                .map(|(user, slot)| (slot, relay_item(effect, user)))
                .collect()
        };
        let items = effect.as_ref().map(users).unwrap_or_default();
        let bytes = items.iter().map(|(_, item)| item.len()).sum();
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let deliveries = self
            .under_way
            .begin_again(home, first, number, (count, bytes));
        for ((slot, item), delivery) in items.into_iter().zip(deliveries) {
            self.sender.send(slot, item, delivery).await;
        }
    }

    /// Delivers all outbox rows from the next number on.
    async fn rows(&self) -> Result<(), StoreError> {
        loop {
            let (store, id) = (self.shard.store().clone(), self.shard.id());
            let (range, done) = (self.shard.range(), self.under_way.next_number() - 1);
            // Beside the tasks: the disk may take its time.
            let read = move || -> Result<Vec<_>, StoreError> {
                let items = undelivered(&*store, id, done, ROWS_MAX)?;
                let effects = items.into_iter();
                effects
                    .map(|(number, item)| effect_of_row(&*store, &range, number, item))
                    .collect()
            };
            let read = tokio::task::spawn_blocking(read).await;
            let effects = read.unwrap_or(Err(StoreError::Stopped))?;
            if effects.is_empty() {
                return Ok(());
            }
            for effect in effects {
                // Asked for each: what moves while one waits for room is the child's.
                match effect.filter(|effect| self.owns(effect)) {
                    Some(effect) => self.deliver(effect).await,
                    None => drop(self.under_way.begin(0, 0)),
                }
            }
        }
    }

    fn owns(&self, effect: &Effect) -> bool {
        let slot = Slot::of_conversation(&effect.app, &effect.conversation);
        self.shard.range().contains(slot)
    }

    /// Takes the next item on its way; waits while too much is.
    async fn deliver(&self, effect: Effect) {
        self.under_way.wait_for_room().await;
        let Audience::Users(users) = &effect.audience;
        let bytes = effect.frame.len() * users.len();
        let count = u32::try_from(users.len()).unwrap_or(u32::MAX);
        let deliveries = self.under_way.begin(count, bytes);
        for (user, delivery) in users.iter().zip(deliveries) {
            let slot = Slot::of_user(&effect.app, user);
            self.sender
                .send(slot, relay_item(&effect, user), delivery)
                .await;
        }
    }
}

/// What the home shard of `user` gets, encoded.
fn relay_item(effect: &Effect, user: &UserId) -> Bytes {
    let publish = Publish {
        topic: Some(Topic {
            app_id: effect.app.as_str().to_owned(),
            name: Some(topic::Name::UserId(user.as_str().to_owned())),
        }),
        except_session_id: effect.except_session_id.clone(),
        frame: effect.frame.clone(),
    };
    let item = RelayItem {
        conversation_id: effect.conversation.as_str().to_owned(),
        publish: publish.encode_to_vec().into(),
    };
    item.encode_to_vec().into()
}

/// What an outbox row says; none if it has moved to a child.
fn effect_of_row(
    store: &dyn StateStore,
    range: &OwnedRange,
    number: u64,
    item: OutboxItem,
) -> Result<Option<Effect>, StoreError> {
    let damaged = |reason: String| StoreError::Damaged {
        what: format!("outbox item {number}"),
        reason,
    };
    let app = AppId::new(&item.app_id).map_err(|e| damaged(e.to_string()))?;
    let conversation =
        ConversationId::parse(&item.conversation_id).map_err(|e| damaged(e.to_string()))?;
    let slot = Slot::of_conversation(&app, &conversation);
    if !range.contains(slot) {
        return Ok(None);
    }
    let keys = ConversationKeys::new(slot, &app, &conversation);
    let frame = match item.body {
        Some(outbox_item::Body::EventSeq(seq)) => {
            let row = store.get(Table::Events, &keys.event(seq))?;
            let row = row.ok_or_else(|| damaged(format!("its event, {seq}, is missing")))?;
            let stored: StoredEvent = decode("event", &row)?;
            frame_of_event(&conversation, seq, &stored)
        }
        Some(outbox_item::Body::Frame(frame)) => frame,
        None => return Err(damaged("it has no body".to_owned())),
    };
    Ok(Some(Effect {
        number,
        audience: audience(&StoreRows(store), &keys, &conversation)?,
        app,
        conversation,
        except_session_id: String::new(),
        frame,
    }))
}

#[cfg(test)]
mod tests {
    use parlance_proto::slot::SlotRange;

    use super::*;
    use crate::apply::tests::fixture::{CHAT, Replica, SHARD, read, send};

    fn of_rows(replica: &Replica, range: &OwnedRange) -> Vec<Option<Effect>> {
        let items = undelivered(&*replica.store, SHARD, 0, usize::MAX).unwrap();
        items
            .into_iter()
            .map(|(number, item)| effect_of_row(&*replica.store, range, number, item).unwrap())
            .collect()
    }

    #[test]
    fn outbox_rows_say_what_the_feed_said_and_nothing_of_what_has_moved() {
        let mut replica = Replica::new();
        replica.one(1, send("alice", "a1", "one"));
        replica.one(2, send("bob", "b1", "two"));
        replica.one(3, read("alice", 2));
        let all = replica.ranges().pop().unwrap();
        let fed = replica.effects.0.lock().0.clone();
        assert_eq!(fed.len(), 3);
        // Which session sent a message is only known at once.
        let expected = fed.into_iter().map(|effect| {
            Some(Effect {
                except_session_id: String::new(),
                ..effect
            })
        });
        assert_eq!(of_rows(&replica, &all), expected.collect::<Vec<_>>());

        let conversation = ConversationId::parse(CHAT).unwrap();
        let slot = Slot::of_conversation(&AppId::new("demo").unwrap(), &conversation);
        let below = OwnedRange {
            slots: SlotRange::ALL.split_at(slot).map(|(below, _)| below),
            ..all
        };
        assert_eq!(of_rows(&replica, &below), [None, None, None]);
    }
}
