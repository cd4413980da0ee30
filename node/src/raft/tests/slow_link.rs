//! A network that is slow on demand.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use tokio::sync::mpsc;

use crate::raft::*;

/// A link on which entries take long to one node.
pub(crate) struct SlowLink {
    link: QuicLink,
    pub(crate) slow: Mutex<Option<(NodeId, Duration)>>,
}

impl SlowLink {
    pub(crate) fn over(link: QuicLink) -> Self {
        Self {
            link,
            slow: Mutex::default(),
        }
    }
}

impl PeerLink for SlowLink {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        shard: ShardId,
        body: Body,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Body, PeerError>> {
        let slow = self
            .slow
            .lock()
            .filter(|(node, _)| *node == to && lane == Lane::Append);
        let call = self.link.call(to, lane, shard, body, timeout);
        async move {
            let answer = call.await;
            if let Some((_, delay)) = slow {
                tokio::time::sleep(delay).await;
            }
            answer
        }
        .boxed()
    }

    fn post(&self, to: NodeId, lane: Lane, shard: ShardId, body: Body) {
        self.link.post(to, lane, shard, body);
    }

    fn send_snapshot(
        &self,
        to: NodeId,
        header: SnapshotHeader,
        chunks: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>> {
        self.link.send_snapshot(to, header, chunks)
    }
}
