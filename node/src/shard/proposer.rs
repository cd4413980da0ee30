//! Gathers a shard's commands into entries: while one entry is in flight, the next one fills.
//!
//! Commands keep the order in which they were submitted. The queue is bounded by count and by bytes; what does not
//! fit is refused at once, so that whoever sent it can slow down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::store::v1::{Command, ShardBatch, command::Body};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, timeout};

use super::{Marks, ShardError};
use crate::clock::Environment;
use crate::machine::{CommandOutcome, Outcome};
use crate::metrics::{self, ProposerMetrics};
use crate::raft::{Leadership, ProposeError, Replica};
use crate::store::room::{DiskRoom, Room};
use crate::totals::Total;

/// Gets the outcome of a command, or why there is none.
type Reply = Box<dyn FnOnce(Result<CommandOutcome, ShardError>) + Send>;

/// The feature level that the cluster has.
pub type FeatureLevel = Arc<dyn Fn() -> u32 + Send + Sync>;

/// Bounds of one shard's proposer. A message, or a command without any, counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposerLimits {
    /// Messages of one entry, soft: the command that passes it is the last. Default: 512. At least 1.
    pub entry_commands_max: usize,
    /// Bytes of one entry, soft as well. Default: 262144 (256 KiB). At least 1024.
    pub entry_bytes_max: usize,
    /// Messages that wait. Default: 16384. At least 1.
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

/// Bytes that may wait for a shard whatever waits for the others of the node.
const SHARD_BYTES_LEAST: usize = 64 * 1024;
/// How long a watermark may stay unwritten when a shard falls quiet.
const QUIET_WATERMARK_DELAY: Duration = Duration::from_secs(5);

struct Proposal {
    command: Command,
    count: usize,
    bytes: usize,
    reply: Reply,
}

struct Queued {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    /// Bytes of all shards of the node.
    total: Arc<Total>,
}

/// The way into a shard's log. Cheap to clone; the task behind it ends with the last clone.
#[derive(Clone)]
pub struct Proposer {
    sender: mpsc::UnboundedSender<Proposal>, // bounded by `queued`, in commands and bytes
    queued: Arc<Queued>,
    limits: ProposerLimits,
    level: FeatureLevel,
    room: DiskRoom,
}

impl Proposer {
    /// Starts the proposer of a shard. `marks` ride on its entries; `total` are the bytes that wait for all shards.
    pub fn start(
        raft: Replica,
        limits: ProposerLimits,
        marks: Arc<Marks>,
        level: FeatureLevel,
        environment: Arc<dyn Environment>,
        total: Arc<Total>,
    ) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "`queued` bounds it, in commands and in bytes"
        )]
        let (sender, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(Queued {
            commands: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            total,
        });
        let room = raft.room().clone();
        let task = Task {
            leadership: raft.leadership(),
            metrics: ProposerMetrics::new(raft.id()),
            raft,
            limits,
            written: marks.now(),
            marks,
            level: level.clone(),
            environment,
            last: None,
            queued: queued.clone(),
        };
        tokio::spawn(task.run(receiver));
        Self {
            sender,
            queued,
            limits,
            level,
            room,
        }
    }

    /// Queues a command that needs this feature level; the reply is called exactly once, at once if it cannot be queued.
    pub(super) fn submit(&self, body: Body, level: u32, reply: Reply) {
        if level > (self.level)() {
            return reply(Err(ShardError::Refused(above_level(level, (self.level)()))));
        }
        if self.room.now() > Room::Enough {
            metrics::disk_full();
            let free_bytes = self.room.free_bytes();
            return reply(Err(ShardError::DiskFull { free_bytes }));
        }
        let count = messages(&body);
        let command = Command { body: Some(body) };
        let bytes = command.encoded_len();
        let (queued, queued_bytes) = self.queued.take_in(count, bytes);
        let node_is_full = queued_bytes > SHARD_BYTES_LEAST && self.queued.total.is_passed_by(0);
        if queued > self.limits.queue_commands_max
            || queued_bytes > self.limits.queue_bytes_max
            || node_is_full
        {
            self.queued.release(count, bytes);
            metrics::proposals_refused();
            return reply(Err(ShardError::Overloaded {
                queued: queued - count,
            }));
        }
        let proposal = Proposal {
            command,
            count,
            bytes,
            reply,
        };
        if let Err(unsent) = self.sender.send(proposal) {
            self.queued.release(count, bytes);
            (unsent.0.reply)(Err(ShardError::Stopped));
        }
    }
}

fn above_level(needed: u32, level: u32) -> Error {
    let text = format!(
        "this needs feature level {needed}, and the cluster has {level}: run the newer version on all nodes, then parlance cluster upgrade"
    );
    Error::new(ErrorCode::Unsupported, text)
}

fn messages(body: &Body) -> usize {
    match body {
        Body::Send(send) => send.messages.len().max(1),
        _ => 1,
    }
}

impl Queued {
    /// Answers how many commands and bytes wait then.
    fn take_in(&self, commands: usize, bytes: usize) -> (usize, usize) {
        self.total.add(bytes);
        (
            self.commands.fetch_add(commands, Ordering::Relaxed) + commands,
            self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes,
        )
    }

    fn release(&self, commands: usize, bytes: usize) {
        self.commands.fetch_sub(commands, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.total.sub(bytes);
    }
}

struct Task {
    raft: Replica,
    leadership: watch::Receiver<Leadership>,
    metrics: ProposerMetrics,
    limits: ProposerLimits,
    marks: Arc<Marks>,
    /// The marks as the log has them.
    written: [u64; crate::apply::CONSUMERS.len()],
    level: FeatureLevel,
    environment: Arc<dyn Environment>,
    /// When the last batch was proposed, and in which term.
    last: Option<(u64, Instant)>,
    queued: Arc<Queued>,
}

impl Task {
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Proposal>) {
        loop {
            let first = match timeout(QUIET_WATERMARK_DELAY, receiver.recv()).await {
                Ok(Some(first)) => Some(first),
                Ok(None) => return,
                Err(_) if self.has_moved() => None,
                Err(_) => continue,
            };
            let batch = self.gather(first, &mut receiver);
            self.propose(batch).await;
        }
    }

    fn has_moved(&self) -> bool {
        self.leadership.borrow().leading && !self.marks.moved(&self.written).is_empty()
    }

    fn gather(
        &self,
        first: Option<Proposal>,
        receiver: &mut mpsc::UnboundedReceiver<Proposal>,
    ) -> Vec<Proposal> {
        let mut count = first.as_ref().map_or(0, |p| p.count);
        let mut bytes = first.as_ref().map_or(0, |p| p.bytes);
        let mut batch: Vec<Proposal> = first.into_iter().collect();
        while count < self.limits.entry_commands_max && bytes < self.limits.entry_bytes_max {
            let Ok(next) = receiver.try_recv() else { break };
            count += next.count;
            bytes += next.bytes;
            batch.push(next);
        }
        self.queued.release(count, bytes);
        batch
    }

    async fn propose(&mut self, batch: Vec<Proposal>) {
        let leadership = *self.leadership.borrow();
        if !leadership.leading {
            return answer_all(
                batch.into_iter().map(|p| p.reply),
                &ShardError::NotLeader(leadership.leader),
            );
        }
        self.metrics.proposed(batch.iter().map(|p| p.count).sum());
        let (commands, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|proposal| (proposal.command, proposal.reply))
            .unzip();
        let now = self.marks.now();
        let mut entry = ShardBatch {
            time_ms: self.environment.now_ms(),
            commands,
            watermarks: self.marks.moved(&self.written),
            // What a command does may depend on it: the same on every replica, whatever its program could do.
            level: (self.level)(),
            elapsed_ms: self.elapsed_ms(leadership.term),
        };
        self.add_test_command(&mut entry);
        let started = Instant::now();
        let applied = self.raft.propose(Bytes::from(entry.encode_to_vec())).await;
        self.metrics.committed(started.elapsed());
        let error = match applied.map(|applied| applied.outcome) {
            Ok(Outcome::Shard(outcomes)) if outcomes.len() >= replies.len() => {
                self.written = now;
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    reply(Ok(outcome));
                }
                return;
            }
            // A batch answered by anything else would be a bug of apply; nobody is told that it succeeded.
            Ok(_) | Err(ProposeError::OutcomeUnknown) => ShardError::OutcomeUnknown,
            Err(ProposeError::NotLeader { leader }) => ShardError::NotLeader(leader),
            Err(ProposeError::Stopped) => ShardError::Stopped,
        };
        answer_all(replies, &error);
    }

    /// Since the batch before, which is in the log or was given up: of no time more than one batch says it.
    fn elapsed_ms(&mut self, term: u64) -> u64 {
        let now = Instant::now();
        let last = self.last.replace((term, now));
        let since = last.filter(|(of, _)| *of == term);
        let elapsed = since.map(|(_, at)| now.duration_since(at).as_millis());
        elapsed.map_or(0, |ms| u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// A program of a later level uses what that level brings as soon as the cluster has it.
    #[cfg(feature = "unsafe-test-switches")]
    fn add_test_command(&self, entry: &mut ShardBatch) {
        use parlance_proto::store::v1::TestCommand;
        if entry.level >= parlance_proto::version::TEST_FEATURE_LEVEL {
            entry.commands.push(Command {
                body: Some(Body::Test(TestCommand {})),
            });
        }
    }

    #[cfg(not(feature = "unsafe-test-switches"))]
    #[allow(clippy::unused_self, reason = "there is nothing to add")]
    fn add_test_command(&self, _: &mut ShardBatch) {}
}

fn answer_all(replies: impl IntoIterator<Item = Reply>, error: &ShardError) {
    for reply in replies {
        reply(Err(error.clone()));
    }
}
