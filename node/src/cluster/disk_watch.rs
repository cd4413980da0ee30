//! A node whose disk has no room, fails, or does not answer, does not lead what another can lead.

use std::io;
use std::path::PathBuf;

use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep, timeout};

use super::handover::Handover;
use super::tasks::Tasks;
use crate::config::Config;
use crate::raft::RaftHost;
use crate::store::room::Room;

/// Between looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// A write of the log that takes longer than this is one that the disk does not answer.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// What speaks against leading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Full(Room),
    Failing,
    Silent,
}

pub(super) struct DiskWatch {
    handover: Handover,
    host: RaftHost,
    data_dir: PathBuf,
    /// The disk is being asked.
    asked: Option<JoinHandle<io::Result<Room>>>,
    trouble: Option<Trouble>,
}

impl DiskWatch {
    pub(super) fn new(handover: &Handover, host: &RaftHost, config: &Config) -> Self {
        Self {
            handover: handover.clone(),
            host: host.clone(),
            data_dir: config.data_dir.clone(),
            asked: None,
            trouble: None,
        }
    }

    /// Looks until the node stops.
    pub(super) async fn run(mut self, tasks: Tasks) {
        while tasks.or_stopped(self.look()).await.is_some() {
            if tasks.or_stopped(sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&mut self) {
        self.measure().await;
        let room = self.host.room().now();
        let trouble = if self.host.log_waiting() > SILENT_AFTER {
            Some(Trouble::Silent)
        } else if self.host.store_refuses() {
            Some(Trouble::Failing)
        } else {
            (room > Room::Enough).then_some(Trouble::Full(room))
        };
        if trouble != self.trouble {
            self.trouble = trouble;
            self.tell();
        }
        if trouble.is_some() {
            self.handover.unfit(|_, _| true).await;
        }
    }

    /// A disk that is stuck may not answer this either: it is asked beside, and not twice at a time.
    async fn measure(&mut self) {
        let asked = self.asked.get_or_insert_with(|| {
            let (room, dir) = (self.host.room().clone(), self.data_dir.clone());
            tokio::task::spawn_blocking(move || room.measure(&dir))
        });
        if let Ok(answered) = timeout(INTERVAL, asked).await {
            self.asked = None;
            if let Ok(Err(error)) = answered {
                tracing::warn!(%error, "the disk does not say how much room it has");
            }
        }
    }

    fn tell(&self) {
        let room = self.host.room();
        let (free_bytes, reserve_bytes) = (room.free_bytes(), room.reserve_bytes());
        match self.trouble {
            None => tracing::info!(free_bytes, "the disk is well again: everything is taken"),
            Some(Trouble::Silent) => tracing::warn!(
                "the disk does not answer a write of the raft log: others lead until it does"
            ),
            Some(Trouble::Failing) => {
                tracing::warn!("the state store takes no rows: others lead until it does")
            }
            Some(Trouble::Full(Room::Out)) => tracing::warn!(
                free_bytes,
                reserve_bytes,
                "the disk is full but for a rest that must stay: nothing is taken until there is room"
            ),
            Some(Trouble::Full(_)) => tracing::warn!(
                free_bytes,
                reserve_bytes,
                "the disk is nearly full: nothing new is taken until there is room, and others lead"
            ),
        }
    }
}
