//! Timing and sizes of Raft on a node.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

/// A replica that is this near to the end of the log has caught up.
pub(super) const CAUGHT_UP_ENTRIES: u64 = 64;

/// The settings of all replicas of a node.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftConfig {
    /// Between a leader's heartbeats, in ms. Default: 150. Allowed: 10 to 10,000.
    pub heartbeat_ms: u64,
    /// Length of a leader's lease in ms: no other is elected for so long after its last word. The same on all nodes of a
    /// cluster. Default: 600. Allowed: from three heartbeats to 600,000.
    pub lease_ms: u64,
    /// Unanswered appends per shard and follower. Default: 2. Allowed: 1 to 64.
    pub append_window: usize,
    /// Entries after which a shard's log is compacted. Default: 50,000. Allowed: from 100.
    pub snapshot_entries: u64,
    /// Bytes of entries after which a shard's log is compacted. Default: 64 MiB. Allowed: from 1 MiB.
    pub snapshot_bytes: u64,
    /// Entries kept behind a snapshot for followers that are a little behind. Default: 5,000.
    pub keep_entries: u64,
    /// Bytes of entries that a shard's log keeps for a follower that is slower than the writes; one that is further behind
    /// gets a snapshot. Default: 256 MiB. Allowed: from `snapshot_bytes`.
    pub log_bytes_max: u64,
    /// The same in entries. Default: 500,000. Allowed: from `snapshot_entries`.
    pub log_entries_max: u64,
    /// Bytes that should stay free on the data directory's disk: with less the node takes no new messages and hands over
    /// what it leads, with less than half it takes nothing. 0: it does not look. Default: 1 GiB.
    pub disk_reserve_bytes: u64,
    /// Bytes of the newest entries kept in memory, for all shards together. Default: 32 MiB.
    pub log_tail_bytes: usize,
    /// Snapshots that the node sends, and that it receives, at a time. Default: 2. Allowed: 1 to 64.
    pub snapshots_at_once: usize,
    /// Buffers asked of the kernel for the UDP socket, in bytes each way. Default: 4 MiB.
    pub udp_buffer_bytes: usize,
    /// Give the network card many packets at once. Off for drivers and tunnels that break on it. Default: true.
    pub udp_segmentation_offload: bool,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 150,
            lease_ms: 600,
            append_window: 2,
            snapshot_entries: 50_000,
            snapshot_bytes: 64 << 20,
            keep_entries: 5_000,
            log_bytes_max: 256 << 20,
            log_entries_max: 500_000,
            disk_reserve_bytes: 1 << 30,
            log_tail_bytes: 32 << 20,
            snapshots_at_once: 2,
            udp_buffer_bytes: 4 << 20,
            udp_segmentation_offload: true,
        }
    }
}

impl RaftConfig {
    /// All that is wrong with the settings, each beginning with the setting's name.
    pub fn faults(&self) -> Vec<String> {
        let rules = [
            (
                (10..=10_000).contains(&self.heartbeat_ms),
                "heartbeat_ms: must be 10 to 10000",
            ),
            (
                self.lease_ms >= 3 * self.heartbeat_ms,
                "lease_ms: must be at least three times heartbeat_ms",
            ),
            (self.lease_ms <= 600_000, "lease_ms: must be at most 600000"),
            (
                (1..=64).contains(&self.append_window),
                "append_window: must be 1 to 64",
            ),
            (
                self.snapshot_entries >= 100,
                "snapshot_entries: must be at least 100",
            ),
            (
                self.snapshot_bytes >= 1 << 20,
                "snapshot_bytes: must be at least 1048576",
            ),
            (
                self.log_bytes_max >= self.snapshot_bytes,
                "log_bytes_max: must be at least snapshot_bytes",
            ),
            (
                self.log_entries_max >= self.snapshot_entries,
                "log_entries_max: must be at least snapshot_entries",
            ),
            (
                self.keep_entries <= 10_000_000,
                "keep_entries: must be at most 10000000",
            ),
            (
                (1..=64).contains(&self.snapshots_at_once),
                "snapshots_at_once: must be 1 to 64",
            ),
        ];
        rules
            .into_iter()
            .filter(|(holds, _)| !holds)
            .map(|(_, text)| text.to_owned())
            .collect()
    }

    /// How long a leader may serve reads without asking.
    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How long a request without entries may take.
    pub(super) fn control_timeout(&self) -> Duration {
        self.lease() / 2
    }

    /// Entries that are purged at a time, at least: purges are range deletes, few and large.
    pub(super) fn purge_batch(&self) -> u64 {
        (self.snapshot_entries / 10).max(1)
    }

    pub(super) fn openraft(&self) -> Config {
        Config {
            cluster_name: "parlance".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.lease_ms / 2,
            election_timeout_max: self.lease_ms,
            max_payload_entries: 4096,
            max_append_entries: Some(4096),
            // Only what adding a learner waits for.
            replication_lag_threshold: CAUGHT_UP_ENTRIES,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.keep_entries,
            purge_batch_size: self.purge_batch(),
            api_channel_size: Some(4096),
            notification_channel_size: Some(4096),
            state_machine_channel_size: Some(256),
            removed_leader_step_down: StepDownPolicy::After(150),
            enable_pre_vote: Some(true),
            // `election_turns.rs` and `pulse.rs` do both.
            enable_tick: false,
            // A restarted leader would take its commit mark on disk, which may be old, for the point to read from.
            enable_leader_restore: Some(false),
            backoff: "50ms 100ms 200ms ...1s".to_owned(),
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_accepted_by_the_library() {
        assert!(RaftConfig::default().faults().is_empty());
        RaftConfig::default().openraft().validate().unwrap();
        let bad = RaftConfig {
            heartbeat_ms: 300,
            append_window: 0,
            ..RaftConfig::default()
        };
        assert_eq!(bad.faults().len(), 2);
    }
}
