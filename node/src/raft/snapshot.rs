//! A shard's snapshots: its rows themselves.
//!
//! Making one is to have the rows on disk and to say up to where they go. Nothing is copied; the rows are read when a
//! follower needs them (`snapshot_send.rs`), and arrive there as files (`snapshot_receive.rs`).

use std::io;
use std::sync::Arc;

use openraft::type_config::alias::SnapshotOf;
use openraft::{RaftSnapshotBuilder, Snapshot};
use parlance_proto::store::v1::{self as stored, AppliedState};
use tokio_util::sync::CancellationToken;

use super::convert;
use super::feed::Feed;
use super::metrics;
use super::purge_gate::is_durable;
use super::retry::until_it_works;
use super::shard_rows::ShardRows;
use super::snapshot_folder::ReceivedRows;
use super::types::{SnapshotMeta, TypeConfig};
use crate::sabotage::{CrashPoint, crash_point};
use crate::store::{RowRange, StoreError, Table};

/// Of the messages that rows travel in.
pub(super) const FORMAT: u32 = 1;

/// What is behind a snapshot's meta.
pub enum SnapshotData {
    /// The rows in the store, as they will be when they are sent.
    Rows(Arc<ShardRows>),
    /// What a leader has sent.
    Received(ReceivedRows),
}

pub(super) fn meta(state: &AppliedState) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: state.applied.as_ref().map(convert::to_log_id),
        last_membership: convert::to_stored_membership(state)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?,
    })
}

pub(super) fn range(range: &RowRange) -> stored::RowRange {
    stored::RowRange {
        table: range.table.name().to_owned(),
        from: range.from.clone().into(),
        to: range.to.clone().into(),
    }
}

pub(super) fn to_range(range: &stored::RowRange) -> io::Result<RowRange> {
    let table = Table::by_name(&range.table).ok_or_else(|| invalid("rows of an unknown table"))?;
    Ok(RowRange {
        table,
        from: range.from.to_vec(),
        to: range.to.to_vec(),
    })
}

pub(super) fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// Makes one snapshot: the log up to it may go once it is made.
pub struct SnapshotBuilder {
    pub(super) meta: SnapshotMeta,
    pub(super) feed: Arc<Feed>,
    pub(super) stop: CancellationToken,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    /// An error would end the replica, so there is none: the disk is asked again until it works.
    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        let rows = self.feed.rows.clone();
        let index = self.meta.last_log_id.map_or(0, |id| id.index);
        let flush = {
            let rows = rows.clone();
            // Evenly used shards fall due together: the first flush serves them all.
            move || match is_durable(&*rows.store, rows.shard, index)? {
                true => Ok::<_, StoreError>(()),
                false => rows.store.flush(),
            }
        };
        crash_point(CrashPoint::BeforeSnapshotBuild);
        let flushed = until_it_works("flush of the state", rows.shard, &self.stop, flush).await;
        let meta = match flushed {
            Some(Ok(())) => {
                crash_point(CrashPoint::AfterSnapshotBuild);
                metrics::snapshot("made");
                self.feed.made(index);
                self.meta.clone()
            }
            // Nothing may be purged behind it.
            Some(Err(error)) => {
                rows.report_damage(&error);
                SnapshotMeta::default()
            }
            None => SnapshotMeta::default(),
        };
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Rows(rows),
        })
    }
}
