//! Gathers a shard's commands into entries: while one entry is in flight, the next one fills.
//!
//! Commands keep the order in which they were submitted. The queue is bounded by count and by bytes; what does not
//! fit is refused at once, so that whoever sent it can slow down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parlance_proto::shard::group_shard;
use parlance_proto::store::v1::{Command, ShardBatch};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, timeout};

use super::ShardError;
use crate::apply::{CommandOutcome, Outcome};
use crate::clock::Environment;
use crate::metrics::{self, ProposerMetrics};
use crate::raft::{Leadership, ProposeError, RaftGroup};

/// Gets one outcome for each command, or why there is none.
pub type Reply = Box<dyn FnOnce(Result<Vec<CommandOutcome>, ShardError>) + Send>;

/// Bounds of one shard's proposer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposerLimits {
    /// Commands of one entry. Default: 512. At least 1.
    pub entry_commands_max: usize,
    /// Bytes of one entry, soft: the command that passes it is the last. Default: 262144 (256 KiB). At least 1024.
    pub entry_bytes_max: usize,
    /// Commands that wait. Default: 16384. At least 1.
    pub queue_commands_max: usize,
    /// Bytes that wait. Default: 16777216 (16 MiB). At least 65536.
    pub queue_bytes_max: usize,
}

impl Default for ProposerLimits {
    fn default() -> Self {
        Self {
            entry_commands_max: 512,
            entry_bytes_max: 256 * 1024,
            queue_commands_max: 16 * 1024,
            queue_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// How long a watermark may stay unwritten when a shard falls quiet.
const QUIET_WATERMARK_DELAY: Duration = Duration::from_secs(5);

struct Proposal {
    commands: Vec<Command>,
    bytes: usize,
    reply: Reply,
}

#[derive(Default)]
struct Queued {
    commands: AtomicUsize,
    bytes: AtomicUsize,
}

/// The way into a shard's log. Cheap to clone; the task behind it ends with the last clone.
#[derive(Clone)]
pub struct Proposer {
    sender: mpsc::UnboundedSender<Proposal>, // bounded by `queued`, in commands and bytes
    queued: Arc<Queued>,
    limits: ProposerLimits,
}

impl Proposer {
    /// Starts the proposer of a group. `relayed` is the outbox watermark that rides on each entry.
    #[allow(
        clippy::disallowed_methods,
        reason = "the queue is bounded by count and bytes, which no channel is"
    )]
    pub fn start(
        raft: RaftGroup,
        limits: ProposerLimits,
        relayed: Arc<AtomicU64>,
        environment: Arc<dyn Environment>,
    ) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "`queued` bounds it, in commands and in bytes"
        )]
        let (sender, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(Queued::default());
        let task = Task {
            leadership: raft.leadership(),
            metrics: ProposerMetrics::new(group_shard(raft.id()).unwrap_or_default()),
            raft,
            limits,
            relayed,
            relayed_written: 0,
            environment,
            queued: queued.clone(),
        };
        tokio::spawn(task.run(receiver));
        Self {
            sender,
            queued,
            limits,
        }
    }

    /// Queues commands; the reply is called exactly once, at once if there is no room.
    pub fn submit(&self, commands: Vec<Command>, reply: Reply) {
        let bytes = commands.iter().map(Message::encoded_len).sum();
        let count = commands.len();
        let queued = self.queued.commands.fetch_add(count, Ordering::Relaxed) + count;
        let queued_bytes = self.queued.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if queued > self.limits.queue_commands_max || queued_bytes > self.limits.queue_bytes_max {
            self.queued.release(count, bytes);
            metrics::proposals_refused();
            return reply(Err(ShardError::Overloaded {
                queued: queued - count,
            }));
        }
        if let Err(unsent) = self.sender.send(Proposal {
            commands,
            bytes,
            reply,
        }) {
            self.queued.release(count, bytes);
            (unsent.0.reply)(Err(ShardError::Stopped));
        }
    }
}

impl Queued {
    fn release(&self, commands: usize, bytes: usize) {
        self.commands.fetch_sub(commands, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

struct Task {
    raft: RaftGroup,
    leadership: watch::Receiver<Leadership>,
    metrics: ProposerMetrics,
    limits: ProposerLimits,
    relayed: Arc<AtomicU64>,
    relayed_written: u64,
    environment: Arc<dyn Environment>,
    queued: Arc<Queued>,
}

impl Task {
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Proposal>) {
        loop {
            let first = match timeout(QUIET_WATERMARK_DELAY, receiver.recv()).await {
                Ok(Some(first)) => Some(first),
                Ok(None) => return,
                Err(_) if self.has_watermark() => None,
                Err(_) => continue,
            };
            let batch = self.gather(first, &mut receiver);
            self.propose(batch).await;
        }
    }

    fn has_watermark(&self) -> bool {
        self.leadership.borrow().leading
            && self.relayed.load(Ordering::Relaxed) > self.relayed_written
    }

    fn gather(
        &self,
        first: Option<Proposal>,
        receiver: &mut mpsc::UnboundedReceiver<Proposal>,
    ) -> Vec<Proposal> {
        let mut count = first.as_ref().map_or(0, |p| p.commands.len());
        let mut bytes = first.as_ref().map_or(0, |p| p.bytes);
        let mut batch: Vec<Proposal> = first.into_iter().collect();
        while count < self.limits.entry_commands_max && bytes < self.limits.entry_bytes_max {
            let Ok(next) = receiver.try_recv() else { break };
            count += next.commands.len();
            bytes += next.bytes;
            batch.push(next);
        }
        self.queued.release(count, bytes);
        batch
    }

    async fn propose(&mut self, mut batch: Vec<Proposal>) {
        let leadership = *self.leadership.borrow();
        if !leadership.leading {
            return answer_all(batch, &ShardError::NotLeader(leadership.leader));
        }
        let relayed = self.relayed.load(Ordering::Relaxed);
        let counts: Vec<usize> = batch.iter().map(|p| p.commands.len()).collect();
        let commands: Vec<Command> = batch
            .iter_mut()
            .flat_map(|p| std::mem::take(&mut p.commands))
            .collect();
        self.metrics.proposed(commands.len());
        let entry = ShardBatch {
            time_ms: self.environment.now_ms(),
            commands,
            relayed,
        };
        let started = Instant::now();
        let applied = self.raft.propose(Bytes::from(entry.encode_to_vec())).await;
        self.metrics.committed(started.elapsed());
        match applied.map(|applied| applied.outcome) {
            Ok(Outcome::Shard(outcomes)) => {
                self.relayed_written = relayed;
                let mut outcomes = outcomes.into_iter();
                for (proposal, count) in batch.into_iter().zip(counts) {
                    (proposal.reply)(Ok(outcomes.by_ref().take(count).collect()));
                }
            }
            // A batch answered by anything else would be a bug of apply; nobody is told that it succeeded.
            Ok(_) => answer_all(batch, &ShardError::OutcomeUnknown),
            Err(ProposeError::NotLeader { leader }) => {
                answer_all(batch, &ShardError::NotLeader(leader))
            }
            Err(ProposeError::OutcomeUnknown) => answer_all(batch, &ShardError::OutcomeUnknown),
            Err(ProposeError::Stopped) => answer_all(batch, &ShardError::Stopped),
        }
    }
}

fn answer_all(batch: Vec<Proposal>, error: &ShardError) {
    for proposal in batch {
        (proposal.reply)(Err(error.clone()));
    }
}
