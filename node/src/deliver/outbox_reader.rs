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
use crate::sabotage::{Switch, is_on};
use crate::shard::{Fed, Shard, StoreRows};
use crate::store::key::ConversationKeys;
use crate::store::{StateStore, StoreError, Table, beside, decode};

/// Items taken from the feed at once.
const ITEMS_MAX: usize = 1024;
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
    let (store, id) = (shard.store().clone(), shard.id());
    let state = beside(move || shard_state(&*store, id)).await?;
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
        for (home, aside) in self.under_way.aside() {
            let is_parked = || self.sender.is_parked(home);
            if is_parked() {
                continue; // another home was freed
            }
            self.take_up_of(home, aside, is_parked).await?;
        }
        let aside = self.under_way.aside();
        Ok(aside.iter().any(|(home, _)| !self.sender.is_parked(*home)))
    }

    /// The same for one home, until it is parked.
    async fn take_up_of(
        &self,
        home: ShardId,
        mut aside: Aside,
        is_parked: impl Fn() -> bool,
    ) -> Result<(), StoreError> {
        let mut effects = self.read(aside.first - 1).await?;
        effects.retain(|(number, _)| *number <= aside.last);
        if effects.is_empty() {
            // No row of it is left, whether the home is parked or not: that may change at any time.
            let nothing = (0, 0);
            drop(
                self.under_way
                    .begin_again(home, &aside, aside.last, nothing),
            );
        }
        for (number, effect) in effects {
            if is_parked() {
                break;
            }
            self.under_way.wait_for_room().await;
            // What moves while one waits for room is the child's.
            let effect = effect.filter(|effect| self.owns(effect));
            if !self.deliver_again(home, &aside, number, effect).await {
                break;
            }
            aside.first = number + 1;
        }
        Ok(())
    }

    /// Delivers an item, in which there is nothing if it has moved, to the users for whom it was set aside. Answers whether it
    /// could: not if more has been set aside meanwhile.
    async fn deliver_again(
        &self,
        home: ShardId,
        aside: &Aside,
        number: u64,
        effect: Option<Effect>,
    ) -> bool {
        let users = |effect: &Effect| -> Vec<(Slot, Bytes)> {
            let Audience::Users(users) = &effect.audience;
            let slots = users.iter().map(|user| Slot::of_user(&effect.app, user));
            let to = users.iter().zip(slots);
            to.filter(|(_, slot)| aside.slots.contains(*slot))
                .map(|(user, slot)| (slot, relay_item(effect, user)))
                .collect()
        };
        let items = effect.as_ref().map(users).unwrap_or_default();
        let bytes = effect.as_ref().map_or(0, |effect| effect.frame.len());
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let what = (count, bytes);
        let Some(deliveries) = self.under_way.begin_again(home, aside, number, what) else {
            return false;
        };
        for ((slot, item), delivery) in items.into_iter().zip(deliveries) {
            self.sender.send(slot, item, delivery).await;
        }
        true
    }

    /// Reads items behind `done`, each with nothing in it if it has moved. Beside the tasks: the disk may take its
    /// time.
    async fn read(&self, done: u64) -> Result<Vec<(u64, Option<Effect>)>, StoreError> {
        let (store, id) = (self.shard.store().clone(), self.shard.id());
        let range = self.shard.range();
        let read = move || {
            let items = undelivered(&*store, id, done, ROWS_MAX)?;
            let effects = items.into_iter().map(|(number, item)| {
                let effect = effect_of_row(&*store, &range, number, item)?;
                Ok((number, effect))
            });
            effects.collect()
        };
        beside(read).await
    }

    /// Delivers all outbox rows from the next number on.
    async fn rows(&self) -> Result<(), StoreError> {
        loop {
            let done = self.under_way.next_number() - 1;
            let effects = self.read(done).await?;
            if effects.is_empty() {
                return Ok(());
            }
            for (_, effect) in effects {
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
        let count = u32::try_from(users.len()).unwrap_or(u32::MAX);
        let deliveries = self.under_way.begin(count, effect.frame.len());
        for (user, delivery) in users.iter().zip(deliveries) {
            if is_on(Switch::ForgetUsers)
                && user.as_str().bytes().fold(0, u8::wrapping_add) % 3 == 0
            {
                continue;
            }
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
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    use parlance_proto::slot::SlotRange;

    use super::super::relay_sender::tests::{Fixture, STUCK, eventually, fixture};
    use super::*;
    use crate::apply::tests::fixture::{CHAT, Replica, SHARD, read, send};
    use crate::shard::tests::{Lone, say};
    use crate::shard::{Marks, ProposerLimits};

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

    /// There is one thread for all tasks here, and who waits for a disk must not be on it.
    #[tokio::test]
    async fn a_disk_that_does_not_answer_a_new_leader_holds_up_no_other_task() {
        let Fixture { sender, .. } = fixture(16_382);
        let lone = Lone::founded(ProposerLimits::default()).await;
        let (release, held) = std::sync::mpsc::sync_channel(1);
        *lone.store.get_held.lock() = Some(held);
        let stop = CancellationToken::new();
        let delivery = deliver_while_leading(lone.shard.clone(), Arc::new(sender), stop.clone());
        let delivery = tokio::spawn(delivery);
        let waits = || lone.store.holds.load(Ordering::SeqCst);
        eventually("the outbox waits for its disk", waits).await;
        release.send(()).unwrap();
        stop.cancel();
        delivery.await.unwrap();
        lone.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_set_aside_stays_so_when_its_home_is_freed_in_between() {
        let Fixture { peers, sender, .. } = fixture(16_382);
        let lone = Lone::founded(ProposerLimits::default()).await;
        lone.shard.run(say(&["m1", "m2"])).await.unwrap();
        let marks = Arc::new(Marks::default());
        let under_way = UnderWay::new(Consumer::Relay, 0, marks.clone(), sender.budget());
        for _ in 0..2 {
            let mut both = under_way.begin(2, 1);
            both.remove(0).set_aside(STUCK, Slot::FIRST);
            both.remove(0).set_aside(STUCK, Slot::LAST);
        }
        let reader = Reader {
            shard: &lone.shard,
            sender: &sender,
            under_way: &under_way,
        };
        let [(home, aside)] = under_way.aside()[..] else {
            panic!("{:?}", under_way.aside())
        };
        // Parked when it is asked first, and no more from then on.
        let parked = Cell::new(true);
        let is_parked = || parked.replace(false);
        reader.take_up_of(home, aside, is_parked).await.unwrap();
        assert_eq!(under_way.aside(), [(home, aside)]);

        peers.free.store(true, Ordering::SeqCst);
        reader.take_up_of(home, aside, || false).await.unwrap();
        eventually("both are relayed", || marks.get(Consumer::Relay) == 2).await;
        assert_eq!(peers.taken.lock().len(), 4);
        lone.stop().await;
    }
}
