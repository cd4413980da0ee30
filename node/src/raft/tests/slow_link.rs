//! A network that is slow on demand, or loses what a test says.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use tokio::sync::{mpsc, watch};

use crate::raft::*;

/// A link on which entries take long to one node, or on which a test decides about each message.
pub(crate) struct SlowLink {
    link: QuicLink,
    pub(crate) slow: Mutex<Option<(NodeId, Duration)>>,
    pub(crate) judge: Mutex<Option<Judge>>,
}

/// What becomes of a message to a node.
pub(crate) type Judge = Box<dyn FnMut(NodeId, ShardId, &Body) -> Fate + Send>;

pub(crate) enum Fate {
    Delivered,
    Lost,
    /// It is delivered; the answer comes back once this is true.
    AnsweredOnce(watch::Receiver<bool>),
}

impl SlowLink {
    pub(crate) fn over(link: QuicLink) -> Self {
        Self {
            link,
            slow: Mutex::default(),
            judge: Mutex::default(),
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
        let fate = match &mut *self.judge.lock() {
            Some(judge) => judge(to, shard, &body),
            None => Fate::Delivered,
        };
        let mut answered = match fate {
            Fate::Delivered => None,
            Fate::Lost => {
                let lost = async move {
                    tokio::time::sleep(timeout).await;
                    Err(PeerError::Timeout { node: to, timeout })
                };
                return lost.boxed();
            }
            Fate::AnsweredOnce(when) => Some(when),
        };
        let call = self.link.call(to, lane, shard, body, timeout);
        async move {
            let answer = call.await;
            if let Some(when) = &mut answered {
                let _ = when.wait_for(|now| *now).await; // the test is over
            }
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
