//! The events of one conversation on their way to the app: what came too early waits, what came twice is dropped.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::history::{SeenEvent, Way};

/// One conversation as a session has it.
#[derive(Default)]
pub(super) struct Inbox {
    /// The last seq handed to the app.
    pub last: u64,
    early: BTreeMap<u64, (SeenEvent, Way)>,
    /// Since when something is missing, and no progress was made.
    pub gap_since: Option<Instant>,
    /// A history request is on its way.
    pub fetching: bool,
    /// The newest seq that the cluster has told.
    pub head: u64,
    /// The newest seq that a list has told.
    pub listed: u64,
    /// A request that was on its way when the session was told to resync.
    pub resynced: bool,
}

impl Inbox {
    /// How an event comes that was fetched.
    pub(super) fn way_of_fetched(&self, seq: u64) -> Way {
        if seq <= self.listed || self.resynced {
            Way::History
        } else {
            Way::Gap
        }
    }

    /// Takes an event in and gives those that the app may have now, in order.
    pub(super) fn take(&mut self, event: SeenEvent, way: Way) -> Vec<(SeenEvent, Way)> {
        self.head = self.head.max(event.seq);
        if event.seq > self.last {
            self.early.entry(event.seq).or_insert((event, way));
        }
        let mut ready = Vec::new();
        while let Some(next) = self.early.remove(&(self.last + 1)) {
            self.last += 1;
            ready.push(next);
        }
        self.gap_since = match self.gap_since {
            _ if self.last >= self.head => None,
            Some(since) if ready.is_empty() => Some(since),
            _ => Some(Instant::now()),
        };
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> SeenEvent {
        SeenEvent {
            seq,
            time_ms: 0,
            sender: "a".into(),
            id: seq.to_string(),
            digest: String::new(),
        }
    }

    #[tokio::test]
    async fn events_leave_once_and_in_order() {
        let mut inbox = Inbox::default();
        let mut order = Vec::new();
        for seq in [2, 2, 1, 1, 4, 2, 3, 5] {
            order.extend(
                inbox
                    .take(event(seq), Way::Push)
                    .into_iter()
                    .map(|(event, _)| event.seq),
            );
            assert_eq!(inbox.gap_since.is_some(), !inbox.early.is_empty());
        }
        assert_eq!(order, [1, 2, 3, 4, 5]);
    }
}
