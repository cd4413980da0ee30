//! Who leads which group: the newest that this node has seen itself or heard from another.

use std::collections::BTreeMap;

use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::raft::v1::{LeaderAnnouncement, Leads};
use parlance_proto::shard::Group;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use crate::raft::NodeId;

/// A leader in a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lead {
    /// The term; a higher one is newer.
    pub term: u64,
    /// None while the term has no leader that is known.
    pub node: Option<NodeId>,
}

/// The table of leaders. Cheap to clone.
#[derive(Clone)]
pub struct Leaders {
    table: watch::Sender<BTreeMap<Group, Lead>>,
    heard: Arc<Mutex<BTreeMap<NodeId, Instant>>>,
}

/// Nodes announce themselves every second; one that has missed a few is taken for unreachable.
const HEARD_WITHIN: Duration = Duration::from_secs(4);

impl Default for Leaders {
    fn default() -> Self {
        Self {
            table: watch::Sender::new(BTreeMap::new()),
            heard: Arc::default(),
        }
    }
}

impl Leaders {
    /// The leader of a group, if one is known.
    pub fn of(&self, group: Group) -> Option<NodeId> {
        self.table.borrow().get(&group).and_then(|lead| lead.node)
    }

    /// All leaders, now and after each change.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<Group, Lead>> {
        self.table.subscribe()
    }

    /// Takes what is newer: a higher term, or in the same term a leader where none was known.
    pub fn learn(&self, group: Group, lead: Lead) {
        self.table.send_if_modified(|table| {
            let known = table.entry(group).or_default();
            let newer = lead.term > known.term
                || (lead.term == known.term && known.node.is_none() && lead.node.is_some());
            if newer {
                *known = lead;
            }
            newer
        });
    }

    /// Takes what another node says of itself.
    pub fn hear(&self, from: NodeId, announcement: &LeaderAnnouncement) {
        if announcement.leaving {
            self.heard.lock().remove(&from);
        } else {
            self.heard.lock().insert(from, Instant::now());
        }
        for lead in &announcement.leads {
            self.learn(
                lead.group,
                Lead {
                    term: lead.term,
                    node: Some(from),
                },
            );
        }
    }

    /// Whether a node has announced itself lately.
    pub fn is_heard(&self, node: NodeId) -> bool {
        self.is_heard_within(node, HEARD_WITHIN)
    }

    /// Whether a node has announced itself in the time given.
    pub fn is_heard_within(&self, node: NodeId, time: Duration) -> bool {
        self.heard
            .lock()
            .get(&node)
            .is_some_and(|at| at.elapsed() < time)
    }

    /// What `node` leads, for telling others, and whether it is about to stop.
    pub fn announcement(&self, node: NodeId, leaving: bool) -> LeaderAnnouncement {
        let table = self.table.borrow();
        let leads = table
            .iter()
            .filter(|(_, lead)| lead.node == Some(node))
            .map(|(group, lead)| Leads {
                group: *group,
                term: lead.term,
            })
            .collect();
        LeaderAnnouncement { leads, leaving }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_terms_and_first_leaders_of_a_term_count() {
        let leaders = Leaders::default();
        leaders.learn(
            3,
            Lead {
                term: 5,
                node: Some(1),
            },
        );
        leaders.learn(
            3,
            Lead {
                term: 4,
                node: Some(2),
            },
        );
        assert_eq!(leaders.of(3), Some(1));
        leaders.learn(
            3,
            Lead {
                term: 6,
                node: None,
            },
        );
        assert_eq!(leaders.of(3), None);
        leaders.hear(
            2,
            &LeaderAnnouncement {
                leads: vec![Leads { group: 3, term: 6 }],
                leaving: false,
            },
        );
        assert_eq!(leaders.of(3), Some(2));
        assert!(leaders.is_heard(2));
        assert_eq!(leaders.announcement(2, false).leads.len(), 1);
        assert!(leaders.announcement(1, false).leads.is_empty());
        leaders.hear(2, &leaders.announcement(2, true));
        assert_eq!(leaders.of(3), Some(2), "it leads until somebody else does");
        assert!(!leaders.is_heard(2), "but is given nothing more");
    }
}
