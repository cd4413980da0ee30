//! Messages between nodes.
//!
//! [`PeerLink`] is the seam: [`QuicLink`] in production, something in memory in a later simulation. A node dials each
//! other node once; messages of many shards share a few streams ([`Lane`]), answers come back on the same
//! connection, snapshots have a stream each.

mod ask;
mod dial;
mod endpoint;
mod frame;
mod listener;
mod live;
mod quic;
mod snapshot_stream;
mod writer;

use std::time::Duration;

use futures::future::BoxFuture;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use tokio::sync::mpsc;

pub use ask::{PeerAsk, PreVote, ask};
pub(super) use listener::call_error;
pub use quic::{QuicConfig, QuicLink};

/// Which stream a message takes. Messages on one lane stay in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Votes, heartbeats, hand-overs, announcements: small, and before all others.
    Control,
    /// Entries of the Raft logs.
    Append,
    /// Events on their way to home shards.
    Relay,
}

/// One stream for each lane: what many shards say at the same time shares a frame.
pub(super) const STREAMS: usize = 3;

impl Lane {
    fn stream(self) -> usize {
        match self {
            Lane::Control => 0,
            Lane::Relay => 1,
            Lane::Append => 2,
        }
    }

    fn of_stream(stream: usize) -> Self {
        match stream {
            0 => Lane::Control,
            1 => Lane::Relay,
            _ => Lane::Append,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Append => "append",
            Lane::Relay => "relay",
        }
    }

    fn priority(self) -> i32 {
        match self {
            Lane::Control => 10,
            Lane::Append => 0,
            Lane::Relay => -1,
        }
    }
}

/// Why a call was not answered. Whether the other node acted on it is unknown, except with `Refused`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No connection, or it broke.
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable {
        /// The node that was called.
        node: NodeId,
        /// What happened.
        reason: String,
    },
    /// No answer in time.
    #[error("node {node} did not answer within {timeout:?}")]
    Timeout {
        /// The node that was called.
        node: NodeId,
        /// How long it had.
        timeout: Duration,
    },
    /// The queue to that node is full: it, or the network, is too slow.
    #[error("too many messages wait for node {node}")]
    Overloaded {
        /// The node that was called.
        node: NodeId,
    },
    /// It answered something else.
    #[error("node {node} answered another message")]
    OtherAnswer {
        /// The node that was called.
        node: NodeId,
    },
    /// It said no.
    #[error("node {node} refused: {reason}")]
    Refused {
        /// The node that was called.
        node: NodeId,
        /// Why, as it said.
        reason: String,
    },
}

/// The way to other nodes.
pub trait PeerLink: Send + Sync + 'static {
    /// Sends a message and waits for its answer. It is queued when this returns, so that calls made one after the
    /// other on one lane and shard arrive in order; while there is no connection, it waits for one.
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        shard: ShardId,
        body: Body,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Body, PeerError>>;

    /// Sends a message that wants no answer; drops it if there is no connection or no room.
    fn post(&self, to: NodeId, lane: Lane, shard: ShardId, body: Body);

    /// Sends a snapshot on a stream of its own and waits until it is installed. Fails if the receiver takes nothing for a
    /// while; `chunks` is dropped then, or when the future is.
    fn send_snapshot(
        &self,
        to: NodeId,
        header: SnapshotHeader,
        chunks: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>>;
}

/// What the cluster map says about nodes.
pub trait Directory: Send + Sync + 'static {
    /// `host:port` of a node's QUIC listener.
    fn address(&self, node: NodeId) -> Option<String>;
    /// The id of its data directory; none or empty if it is not known.
    fn store_id(&self, node: NodeId) -> Option<String>;
}

/// Takes messages that are not Raft's own: relays, announcements, invitations, forwarded commands.
pub trait PeerHandler: Send + Sync + 'static {
    /// Answers a message, if it wants an answer. The sender's certificate, cluster and directory are checked; only
    /// invitations come from outside the cluster.
    fn handle(&self, from: NodeId, shard: ShardId, body: Body) -> BoxFuture<'static, Option<Body>>;
}

/// Takes Raft's own messages. The returned future is polled once before the next message of the stream is looked at:
/// what it does until it first waits is in order.
pub trait RaftInbound: Send + Sync + 'static {
    /// Answers a message.
    fn handle(&self, from: NodeId, shard: ShardId, body: Body) -> BoxFuture<'static, Body>;

    /// Takes a snapshot. The chunks end when all of it has arrived, when the connection broke or when nothing came for
    /// too long.
    fn snapshot(
        &self,
        from: NodeId,
        header: SnapshotHeader,
        chunks: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, SnapshotResponse>;
}

/// Who this node is, as told to others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalIdentity {
    /// Empty before the node is a member.
    pub cluster_id: String,
    /// Of its data directory; empty before the node is a member.
    pub store_id: String,
}
