//! What a shard says to one other replica, over the node's [`PeerLink`].

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesOrdered};
use futures::{Stream, StreamExt};
use openraft::error::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EmptyNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{SnapshotHeader, SnapshotResponse as SnapshotAnswer};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::answers::Answers;
use super::convert::{self, Malformed};
use super::feed::Feed;
use super::log_store::LogStore;
use super::peer::{Lane, PeerAsk, PeerError, PeerLink, PreVote, ask};
use super::snapshot::SnapshotData;
use super::snapshot_send;
use super::types::{LogId, TypeConfig, Vote};
use super::{RaftConfig, metrics};
use crate::clock::Moment;

/// How long a follower may take to put entries on disk before they are sent again.
const APPEND_TIMEOUT: Duration = Duration::from_secs(2);

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Makes the ways of one shard to its other replicas.
pub struct NetworkFactory {
    pub(super) node_id: NodeId,
    pub(super) shard: ShardId,
    pub(super) peers: Arc<dyn PeerLink>,
    pub(super) config: RaftConfig,
    pub(super) feed: Arc<Feed>,
    pub(super) log: LogStore,
    pub(super) answers: Arc<Answers>,
    /// Snapshots that this node may send at a time.
    pub(super) sending: Arc<Semaphore>,
}

impl NetworkFactory {
    fn network(&self, target: NodeId, lane: Lane) -> Network {
        Network {
            node_id: self.node_id,
            target,
            shard: self.shard,
            lane,
            peers: self.peers.clone(),
            window: self.config.append_window,
            limits: LogLimits::new(&self.config),
            feed: self.feed.clone(),
            log: self.log.clone(),
            answers: self.answers.clone(),
            sending: self.sending.clone(),
            control_timeout: self.config.control_timeout(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: NodeId, _node: &EmptyNode) -> Network {
        self.network(target, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, _node: &EmptyNode) -> Network {
        // Heartbeats do not wait behind entries. They must not share a lane with the empty appends of replication,
        // which must stay in order with the entries.
        self.network(target, Lane::Control)
    }
}

/// The way of one shard to one other replica.
#[derive(Clone)]
pub struct Network {
    node_id: NodeId,
    target: NodeId,
    shard: ShardId,
    lane: Lane,
    peers: Arc<dyn PeerLink>,
    window: usize,
    limits: LogLimits,
    feed: Arc<Feed>,
    log: LogStore,
    answers: Arc<Answers>,
    sending: Arc<Semaphore>,
    control_timeout: Duration,
}

/// How much of the log is kept for a follower that is slower than the writes.
#[derive(Clone, Copy)]
struct LogLimits {
    entries_max: u64,
    bytes_max: u64,
    /// Entries that a snapshot may leave in the log behind itself.
    kept: u64,
}

impl LogLimits {
    fn new(config: &RaftConfig) -> Self {
        Self {
            entries_max: config.log_entries_max,
            bytes_max: config.log_bytes_max,
            kept: config.keep_entries + config.purge_batch() + 2,
        }
    }
}

/// What is left to send, and what is not answered yet.
struct Window<S> {
    network: Network,
    input: S,
    unanswered: FuturesOrdered<BoxFuture<'static, (Rpc<AppendEntriesResponse<TypeConfig>>, Range)>>,
    state: InputState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InputState {
    Open,
    Ended,
    /// An answer said that nothing after it counts.
    Broken,
}

/// What an append carries: the log ids before its first and of its last entry.
#[derive(Clone, Copy)]
struct Range {
    previous: Option<LogId>,
    last: Option<LogId>,
}

impl<S> Window<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    /// Sends while there is room and answers the oldest append. The input is not polled while the window is full, so
    /// that what gathers there goes as one.
    async fn next(&mut self) -> Option<Rpc<StreamAppendResult<TypeConfig>>> {
        loop {
            if self.state == InputState::Broken {
                return None;
            }
            let room =
                self.state == InputState::Open && self.unanswered.len() < self.network.window;
            tokio::select! {
                biased;
                Some((answer, range)) = self.unanswered.next() => return Some(self.answered(answer, range)),
                request = self.input.next(), if room => match request {
                    Some(request) => {
                        let previous = request.prev_log_id;
                        if self.network.wants_snapshot(previous) {
                            self.state = InputState::Broken;
                            return Some(Err(too_far_behind()));
                        }
                        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
                        let call = self.network.append(&request);
                        let range = Range { previous, last };
                        self.unanswered.push_back(Box::pin(async move { (call.await, range) }));
                    }
                    None => self.state = InputState::Ended,
                },
                else => return None,
            }
        }
    }

    fn answered(
        &mut self,
        answer: Rpc<AppendEntriesResponse<TypeConfig>>,
        range: Range,
    ) -> Rpc<StreamAppendResult<TypeConfig>> {
        let result = match answer {
            Ok(AppendEntriesResponse::Conflict) if range.previous.is_none() => {
                Err(RPCError::Network(NetworkError::from_string(
                    "a conflict before the first entry",
                )))
            }
            Ok(AppendEntriesResponse::PartialSuccess(taken)) if taken != range.last => {
                self.state = InputState::Broken;
                return Ok(Ok(taken));
            }
            Ok(response) => Ok(response.into_stream_result(range.previous, range.last)),
            Err(e) => Err(e),
        };
        if !matches!(result, Ok(Ok(_))) {
            self.state = InputState::Broken;
        }
        result
    }
}

impl Network {
    /// Whether the follower, which has the log up to `previous`, is fed better by a snapshot: it is far behind, and once its
    /// stream breaks, the log that it would need goes.
    fn wants_snapshot(&self, previous: Option<LogId>) -> bool {
        // Heartbeats are for all, and a new leader does not know yet what a follower has.
        if self.lane != Lane::Append {
            return false;
        }
        let previous = previous.map_or(0, |id| id.index);
        let behind_snapshot = previous + self.limits.kept < self.feed.newest_made();
        if !behind_snapshot || self.feed.is_fed(self.target) {
            return false;
        }
        let (entries, bytes) = self.log.after(previous);
        entries > self.limits.entries_max || bytes > self.limits.bytes_max
    }

    /// Sends the rows up to `index` or further, if it is the shard's turn and the node's; none if it is not, and has to ask
    /// again with a newer snapshot.
    async fn send_rows(&self, vote: &Vote, index: u64) -> Result<SnapshotAnswer, PeerError> {
        let busy = || self.unreachable("other snapshots are being sent".to_owned());
        let _shard = self.feed.sending.try_lock().map_err(|_| busy())?;
        let _node = self.sending.try_acquire().map_err(|_| busy())?;
        let feeding = self.feed.begin(self.target, index).ok_or_else(busy)?;
        let (header, chunks) = snapshot_send::read(self.feed.rows.clone())
            .await
            .map_err(|e| self.unreachable(e.to_string()))?;
        let header = SnapshotHeader {
            vote: Some(convert::vote(vote)),
            ..header
        };
        let sent = self.peers.send_snapshot(self.target, header, chunks);
        let answer = sent.await?;
        if !answer.error.is_empty() {
            return Err(PeerError::Refused {
                node: self.target,
                reason: answer.error,
            });
        }
        feeding.delivered();
        Ok(answer)
    }

    fn unreachable(&self, reason: String) -> PeerError {
        PeerError::Unreachable {
            node: self.target,
            reason,
        }
    }

    fn failed(&self, action: RPCTypes, error: PeerError) -> RPCError<TypeConfig> {
        match error {
            PeerError::Timeout { timeout, .. } => RPCError::Timeout(Timeout {
                action,
                id: self.node_id,
                target: self.target,
                timeout,
            }),
            // All of these want a pause before the next try.
            PeerError::Unreachable { .. }
            | PeerError::Overloaded { .. }
            | PeerError::OtherAnswer { .. }
            | PeerError::Refused { .. } => RPCError::Unreachable(Unreachable::new(&error)),
        }
    }

    /// Queues an append at once; the future waits for its answer.
    fn append(
        &self,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> impl Future<Output = Rpc<AppendEntriesResponse<TypeConfig>>> + Send + use<> {
        let (started, sent) = (Instant::now(), Moment::now());
        let timeout = if self.lane == Lane::Control {
            self.control_timeout
        } else {
            APPEND_TIMEOUT
        };
        let term = request.vote.leader_id.term;
        let request = convert::append_request(request);
        let (peers, target) = (&*self.peers, self.target);
        let call = ask(peers, target, self.lane, self.shard, request, timeout);
        let network = self.clone();
        async move {
            let answer = call
                .await
                .map_err(|e| network.failed(RPCTypes::AppendEntries, e))?;
            metrics::append_round_trip(started.elapsed());
            let response = convert::to_append_response(&answer).map_err(malformed)?;
            if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                network.answers.count(term, network.target, sent);
            }
            Ok(response)
        }
    }

    async fn control<A: PeerAsk>(&self, action: RPCTypes, request: A) -> Rpc<A::Answer> {
        let call = ask(
            &*self.peers,
            self.target,
            Lane::Control,
            self.shard,
            request,
            self.control_timeout,
        );
        call.await.map_err(|e| self.failed(action, e))
    }
}

fn too_far_behind() -> RPCError<TypeConfig> {
    let reason = io::Error::other("too far behind for the log: a snapshot follows");
    RPCError::Unreachable(Unreachable::new(&reason))
}

fn malformed(error: Malformed) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        self.append(&rpc).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let window = Window {
            network: self.clone(),
            input,
            unanswered: FuturesOrdered::new(),
            state: InputState::Open,
        };
        let answers = stream::unfold(window, |mut window| async move {
            let answer = window.next().await?;
            Some((answer, window))
        });
        Box::pin(async move { Ok(answers.fuse().boxed()) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let vote = convert::vote_request(&rpc);
        let answer = self.control(RPCTypes::Vote, vote).await?;
        convert::to_vote_response(&answer).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let vote = PreVote(convert::vote_request(&rpc));
        let answer = self.control(RPCTypes::Vote, vote).await?;
        convert::to_vote_response(&answer).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let index = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let response = tokio::select! {
            answer = self.send_rows(&vote, index) => answer.map_err(|e| {
                metrics::snapshot("failed");
                self.failed(RPCTypes::InstallSnapshot, e)
            })?,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let vote = response
            .vote
            .as_ref()
            .map(convert::to_vote)
            .ok_or_else(|| malformed(Malformed("a snapshot answer without a vote")))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let transfer = convert::transfer_request(&req);
        self.control(RPCTypes::TransferLeader, transfer).await?;
        Ok(Ok(()))
    }
}
