//! What the bare Raft library does without: rows, and a network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use parking_lot::RwLock;
use parlance_proto::raft::v1::{CallError, SnapshotHeader, SnapshotResponse, peer_message::Body};
use parlance_proto::shard::Group;

use crate::apply::Outcome;
use crate::raft::*;
use crate::store::{ExportedFile, Order, StateStore, StoreError, Table, WriteSet};

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
    fn write(&self, _: WriteSet) -> Result<(), StoreError> {
        Ok(())
    }
    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
    fn export(
        &self,
        _: Group,
        _: &Path,
        _: &mut dyn FnMut(&crate::store::ReadRow<'_>) -> Result<(), StoreError>,
    ) -> Result<Vec<ExportedFile>, StoreError> {
        Ok(Vec::new())
    }
    fn import(&self, _: Group, _: &Path, _: &[ExportedFile]) -> Result<(), StoreError> {
        Ok(())
    }
}

pub(super) struct NoMachine;

impl StateMachine for NoMachine {
    fn apply(
        &mut self,
        entries: &[CommittedEntry],
        _: &mut WriteSet,
    ) -> Result<Vec<Outcome>, StoreError> {
        Ok(entries.iter().map(|_| Outcome::default()).collect())
    }
    fn written(&mut self) {}
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
        group: Group,
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
        let mut answer = inbound.handle(self.node_id, group, body);
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

    fn post(&self, _: NodeId, _: Lane, _: Group, _: Body) {}

    fn send_snapshot(
        &self,
        node: NodeId,
        _: SnapshotHeader,
        _: SnapshotFiles,
    ) -> BoxFuture<'static, Result<SnapshotResponse, PeerError>> {
        ready(Err(PeerError::Unreachable {
            node,
            reason: "no snapshots here".into(),
        }))
        .boxed()
    }
}
