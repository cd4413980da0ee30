//! What the bare Raft library does without: rows, and a network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use parking_lot::RwLock;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    CallError, SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use tokio::sync::mpsc;

use crate::machine::{CommittedEntry, Outcome, StateMachine};
use crate::raft::*;
use crate::store::{Order, ReadView, RowFile, RowRange, StateStore, StoreError, Table, WriteBatch};

/// Forgets every row.
pub(super) struct NoRows;

impl StateStore for NoRows {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
    fn get_durable(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.get(table, key)
    }

    fn scan(
        &self,
        _: Table,
        _: &[u8],
        _: &[u8],
        _: Order,
        _: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        Ok(())
    }
    fn write(&self, _: &WriteBatch) -> Result<(), StoreError> {
        Ok(())
    }
    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
    fn view(&self, _: &mut ReadView<'_>) -> Result<(), StoreError> {
        Ok(())
    }
    fn import(&self, _: &[RowRange], _: &Path, _: &[RowFile]) -> Result<(), StoreError> {
        Ok(())
    }
}

pub(super) struct NoMachine;

impl StateMachine for NoMachine {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        _: &mut WriteBatch,
    ) -> Result<Vec<Outcome>, StoreError> {
        Ok(entries.iter().map(|_| Outcome::default()).collect())
    }
    fn written(&mut self) {}
    fn ranges(&self) -> Arc<[RowRange]> {
        Arc::default()
    }
    fn restored(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

type Peer = (NodeId, Arc<dyn RaftInbound>);

/// Function calls in place of a network.
#[derive(Clone, Default)]
pub(super) struct DirectLink {
    node_id: NodeId,
    pub(super) nodes: Arc<RwLock<Vec<Peer>>>,
}

impl DirectLink {
    /// The end of one node.
    pub(super) fn of(&self, node_id: NodeId) -> Self {
        Self {
            node_id,
            ..self.clone()
        }
    }
}

impl PeerLink for DirectLink {
    fn call(
        &self,
        to: NodeId,
        _: Lane,
        shard: ShardId,
        body: Body,
        _: Duration,
    ) -> BoxFuture<'static, Result<Body, PeerError>> {
        let inbound = self
            .nodes
            .read()
            .iter()
            .find(|(id, _)| *id == to)
            .map(|(_, inbound)| inbound.clone());
        let Some(inbound) = inbound else {
            let reason = "not there".to_owned();
            return ready(Err(PeerError::Unreachable { node: to, reason })).boxed();
        };
        let mut answer = inbound.handle(self.node_id, shard, body);
        let checked = move |body| match body {
            Body::Error(CallError { message, .. }) => Err(PeerError::Refused {
                node: to,
                reason: message,
            }),
            body => Ok(body),
        };
        match tokio::task::unconstrained(&mut answer).now_or_never() {
            Some(body) => ready(checked(body)).boxed(),
            None => async move { checked(answer.await) }.boxed(),
        }
    }

    fn post(&self, _: NodeId, _: Lane, _: ShardId, _: Body) {}

    fn send_snapshot(
        &self,
        node: NodeId,
        _: SnapshotHeader,
        _: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>> {
        ready(Err(PeerError::Unreachable {
            node,
            reason: "no snapshots here".into(),
        }))
        .boxed()
    }
}
