//! The types that the Raft library is instantiated with. They stay in this folder: wire and disk have their own
//! (`convert.rs`).

use std::fmt;

use bytes::Bytes;
use openraft::EmptyNode;
use openraft::type_config::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use parlance_proto::ids::NodeId;

use crate::machine::Outcome;

openraft::declare_raft_types!(
    /// How Raft is instantiated here.
    pub TypeConfig:
        D = Payload,
        R = Outcome,
        NodeId = NodeId,
        Node = EmptyNode,
        // At most one leader a term: all that names a leadership outside this folder does so by its term.
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>,
);

/// What an entry carries: opaque to Raft.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Term, leader and index of an entry.
pub type LogId = LogIdOf<TypeConfig>;
/// For whom a replica voted, or whom it follows.
pub type Vote = VoteOf<TypeConfig>;
/// One log entry.
pub type Entry = EntryOf<TypeConfig>;
/// What an entry holds.
pub type EntryPayload = openraft::EntryPayload<Payload, NodeId, EmptyNode>;
/// Voters and learners.
pub type Membership = openraft::Membership<NodeId, EmptyNode>;
/// Voters and learners, and the entry that made them so.
pub type StoredMembership = StoredMembershipOf<TypeConfig>;
/// What a snapshot is of.
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_nodes_lead_in_one_term() {
        let [two, three] = [2, 3].map(|node| Vote::new(4, NodeId(node)));
        assert_eq!(
            two.partial_cmp(&three),
            None,
            "neither vote is above the other"
        );
        assert!(two < Vote::new(5, NodeId(1)));
    }
}
