//! One shard on this node: the door for commands and reads, and what lives only while this node leads.
//!
//! `command.rs` ties each command to its answer, `proposer.rs` gathers commands into entries, `read.rs` answers what
//! history and lists ask. What a committed entry wants done outside waits in `feed.rs` for `deliver/`, which says in
//! `marks.rs` how far it is; `subscriptions.rs` knows the links that want a user's events, and `push_order.rs` in which order
//! they get them, and `touched.rs` what need not be written into conversation lists once more.

mod command;
mod error;
mod feed;
mod marks;
mod proposer;
mod push_order;
mod read;
mod registry;
mod subscriptions;
mod touched;

use std::sync::Arc;

use parlance_proto::ids::ShardId;
use parlance_proto::slot::SlotRange;
use parlance_proto::store::v1::{FoundCommand, SplitCommand};
use tokio::sync::{Notify, oneshot, watch};

pub use command::ShardCommand;
pub use error::ShardError;
pub use feed::{Fed, Feed};
pub use marks::Marks;
pub use proposer::{Proposer, ProposerLimits};
pub use push_order::{LatePlace, PushOrder};
pub use read::{HistoryPage, ListPage, StoreRows};
pub use registry::Shards;
pub use subscriptions::{Subscriptions, UserTopic};
pub use touched::Touched;

use crate::apply::{Effects, OwnedRange};
use crate::raft::Replica;
use crate::store::StateStore;
use crate::totals::Totals;

/// One shard's replica on this node.
pub struct Shard {
    id: ShardId,
    raft: Replica,
    proposer: Proposer,
    parts: ShardParts,
    push_order: PushOrder,
    store: Arc<dyn StateStore>,
}

/// What a shard has beside its replica; apply writes to it from the replica's start on.
#[derive(Clone)]
pub struct ShardParts {
    range: watch::Sender<Arc<OwnedRange>>,
    feed: Arc<Feed>,
    subscriptions: Arc<Subscriptions>,
    marks: Arc<Marks>,
    touched: Arc<Touched>,
    range_changed: Arc<Notify>,
}

impl ShardParts {
    /// Of a shard that has applied nothing yet; `range_changed` is told when what it owns changes.
    pub fn new(range_changed: Arc<Notify>, totals: &Totals) -> Self {
        Self {
            range: watch::Sender::new(Arc::default()),
            feed: Arc::new(Feed::new(&totals.feeds)),
            subscriptions: Arc::default(),
            marks: Arc::default(),
            touched: Arc::new(Touched::new(&totals.touched)),
            range_changed,
        }
    }

    /// The end that apply writes to.
    pub fn sink(&self) -> Box<dyn Effects> {
        Box::new(Sink(self.clone()))
    }

    /// How far the consumers of the outbox are.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }
}

struct Sink(ShardParts);

impl Effects for Sink {
    fn wanted(&self) -> bool {
        self.0.feed.is_open()
    }

    fn publish(&mut self, effects: Vec<crate::apply::Effect>) {
        self.0.feed.push(effects);
    }

    fn owns(&mut self, range: &OwnedRange) {
        self.0.subscriptions.keep(range);
        self.0.range.send_replace(Arc::new(range.clone()));
        self.0.range_changed.notify_one();
    }
}

impl Shard {
    /// Puts the parts together; the proposer runs until its shard is dropped.
    pub fn new(
        raft: Replica,
        proposer: Proposer,
        parts: ShardParts,
        store: Arc<dyn StateStore>,
    ) -> Self {
        Self {
            id: raft.id(),
            raft,
            proposer,
            parts,
            push_order: PushOrder::default(),
            store,
        }
    }

    /// Its id.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Its Raft replica here.
    pub fn raft(&self) -> &Replica {
        &self.raft
    }

    /// What the shard owns by what is applied here.
    pub fn range(&self) -> Arc<OwnedRange> {
        self.parts.range.borrow().clone()
    }

    /// The topics that gateways have subscribed to here.
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.parts.subscriptions
    }

    /// In which order it pushes.
    pub fn push_order(&self) -> &PushOrder {
        &self.push_order
    }

    /// What is touched in its users' lists.
    pub fn touched(&self) -> &Touched {
        &self.parts.touched
    }

    /// What committed entries want delivered.
    pub fn feed(&self) -> &Feed {
        &self.parts.feed
    }

    /// How far the consumers of the outbox are.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.parts.marks
    }

    /// Its rows.
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Puts a command into the next entry; `reply` gets its outcome, or why there is none, exactly once.
    pub fn submit<C: ShardCommand>(
        &self,
        command: C,
        reply: impl FnOnce(Result<C::Outcome, ShardError>) + Send + 'static,
    ) {
        let range = self.parts.range.clone();
        let typed = move |result| {
            reply(match result {
                Ok(outcome) => command::outcome::<C>(outcome, &range.borrow()),
                Err(error) => Err(error),
            });
        };
        let level = command.level();
        self.proposer
            .submit(command.into_body(), level, Box::new(typed));
    }

    /// [`Shard::submit`], for those who can wait.
    pub async fn run<C: ShardCommand>(&self, command: C) -> Result<C::Outcome, ShardError>
    where
        C::Outcome: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.submit(command, move |result| drop(sender.send(result)));
        receiver.await.unwrap_or(Err(ShardError::Stopped))
    }

    /// From the command on, the child owns the upper slots of this shard's range. A split that is in the log already is
    /// done.
    pub async fn split(&self, split: SplitCommand) -> Result<(), ShardError> {
        // Until its outcome is known, a child's leader may know more than what is applied here.
        let pending = self.parts.subscriptions.split_begins();
        let (sender, receiver) = oneshot::channel();
        self.submit(split, move |result| {
            drop(pending);
            drop(sender.send(result));
        });
        receiver.await.unwrap_or(Err(ShardError::Stopped))
    }

    /// A shard that was made with the cluster owns these slots. Does nothing if it owns any.
    pub async fn found(&self, range: SlotRange) -> Result<(), ShardError> {
        self.run(FoundCommand {
            first_slot: range.first().number().into(),
            last_slot: range.last().number().into(),
        })
        .await
    }

    /// Whether this node leads the shard, as far as it knows.
    pub fn is_led_here(&self) -> bool {
        self.raft.leadership().borrow().leading
    }
}

#[cfg(test)]
pub(crate) mod tests;
