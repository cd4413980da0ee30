//! A disk that fails on demand, and a network that is slow on demand.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, peer_message::Body,
};
use tokio::sync::mpsc;

use crate::raft::*;
use crate::store::manifest::Existing;
use crate::store::rocks::RocksStore;
use crate::store::{Order, ReadView, RowFile, RowRange, StateStore, StoreError, Table, WriteBatch};

/// A state store on a disk with faults.
pub(crate) struct Disk {
    rows: RocksStore,
    /// Nothing more fits.
    pub(crate) full: AtomicBool,
    /// So many writes do nothing and fail.
    pub(crate) writes_fail: AtomicU32,
    /// So many views cannot be read.
    pub(crate) views_fail: AtomicU32,
    /// So many imports do nothing and fail.
    pub(crate) imports_fail: AtomicU32,
    /// How long an import takes longer.
    pub(crate) import_takes: Mutex<Duration>,
    /// Imports that were done.
    pub(crate) imports: AtomicU32,
}

impl Disk {
    pub(crate) fn open(dir: &Path) -> Self {
        Self {
            rows: RocksStore::open(dir, Existing::No).unwrap(),
            full: AtomicBool::default(),
            writes_fail: AtomicU32::default(),
            views_fail: AtomicU32::default(),
            imports_fail: AtomicU32::default(),
            import_takes: Mutex::default(),
            imports: AtomicU32::default(),
        }
    }
}

fn refuse() -> Result<(), StoreError> {
    Err(StoreError::File {
        path: "state".into(),
        source: Arc::new(std::io::Error::other("No space left on device")),
    })
}

fn refuse_some(left: &AtomicU32) -> Result<(), StoreError> {
    let take_one = |left: u32| left.checked_sub(1);
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one) {
        Ok(_) => refuse(),
        Err(_) => Ok(()),
    }
}

impl StateStore for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.rows.get(table, key)
    }

    fn get_durable(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.rows.get_durable(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.rows.scan(table, from, to, order, visit)
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        refuse_some(&self.writes_fail)?;
        self.rows.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            return refuse();
        }
        self.rows.flush()
    }

    fn view(&self, read: &mut ReadView<'_>) -> Result<(), StoreError> {
        refuse_some(&self.views_fail)?;
        self.rows.view(read)
    }

    fn import(&self, ranges: &[RowRange], dir: &Path, files: &[RowFile]) -> Result<(), StoreError> {
        refuse_some(&self.imports_fail)?;
        std::thread::sleep(*self.import_takes.lock());
        self.rows.import(ranges, dir, files)?;
        self.imports.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

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
