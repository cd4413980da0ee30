//! Who leads the shards with a replica here, for the table of leaders; and which leaderships this node lost.

use tokio::sync::watch;
use tokio::time::Instant;

use super::steadiness::Steadiness;
use super::tasks::Tasks;
use crate::meta::{Lead, Leaders};
use crate::raft::Replica;

/// Keeps the table of leaders up to date with the replicas here.
#[derive(Clone)]
pub(super) struct Leadership {
    pub(super) leaders: Leaders,
    pub(super) steadiness: Steadiness,
    pub(super) tasks: Tasks,
}

impl Leadership {
    /// Follows one replica until it or the node stops.
    pub(super) fn follow(&self, raft: Replica) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let mut leadership = raft.leadership();
            leadership.mark_changed();
            let mut led = None;
            let stopping = raft.stopping();
            let changed = async |leadership: &mut watch::Receiver<_>| {
                let changed = stopping.run_until_cancelled(leadership.changed());
                this.tasks.or_stopped(changed).await.flatten()
            };
            while let Some(Ok(())) = changed(&mut leadership).await {
                let now = *leadership.borrow_and_update();
                let (term, node) = (now.term, now.leader);
                this.leaders.learn(raft.id(), Lead { term, node });
                let leading = now.leading.then_some(term);
                if let Some(ended) = led.filter(|_| led != leading) {
                    this.steadiness.ended(raft.id(), ended, Instant::now());
                }
                led = leading;
            }
        });
    }
}
