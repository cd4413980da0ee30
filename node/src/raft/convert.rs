//! The Raft library's types to and from our messages, which alone go on the wire and to disk.
//!
//! What comes from outside may be malformed: it becomes a [`Malformed`], never a panic.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EmptyNode;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use parlance_proto::ids::NodeId;
use parlance_proto::raft::v1 as wire;
use parlance_proto::store::v1 as store;
use prost::Message;

use super::types::{
    Entry, EntryPayload, LogId, Membership, Payload, StoredMembership, TypeConfig, Vote,
};

type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;
type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;

/// The first byte of a log row: how the rest is encoded.
const ROW_VERSION: u8 = 1;

/// A message that cannot mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

pub(super) fn log_id(id: &LogId) -> store::LogId {
    store::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(super) fn to_log_id(id: &store::LogId) -> LogId {
    LogId {
        leader_id: CommittedLeaderId::new(id.term),
        index: id.index,
    }
}

pub(super) fn vote(vote: &Vote) -> store::Vote {
    store::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for.0,
        committed: vote.committed,
    }
}

pub(super) fn to_vote(vote: &store::Vote) -> Vote {
    Vote {
        leader_id: LeaderId::new(vote.term, NodeId(vote.node_id)),
        committed: vote.committed,
    }
}

fn required_vote(v: Option<&store::Vote>) -> Result<Vote, Malformed> {
    v.map(to_vote).ok_or(Malformed("no vote"))
}

pub(super) fn membership(m: &Membership) -> store::Membership {
    store::Membership {
        configs: m
            .get_joint_config()
            .iter()
            .map(|set| store::NodeSet {
                node_ids: set.iter().map(|id| id.0).collect(),
            })
            .collect(),
        nodes: m.nodes().map(|(id, _)| id.0).collect(),
    }
}

pub(super) fn to_membership(m: &store::Membership) -> Result<Membership, Malformed> {
    let configs: Vec<BTreeSet<NodeId>> = m
        .configs
        .iter()
        .map(|set| set.node_ids.iter().copied().map(NodeId).collect())
        .collect();
    let nodes: BTreeMap<NodeId, EmptyNode> = m
        .nodes
        .iter()
        .map(|id| (NodeId(*id), EmptyNode {}))
        .collect();
    Membership::new(configs, nodes).map_err(|_| Malformed("membership with unknown or no voters"))
}

pub(super) fn stored_membership(m: &StoredMembership) -> (Option<store::LogId>, store::Membership) {
    (m.log_id().as_ref().map(log_id), membership(m.membership()))
}

pub(super) fn to_stored_membership(
    state: &store::AppliedState,
) -> Result<StoredMembership, Malformed> {
    let membership = match &state.membership {
        Some(m) if !(m.configs.is_empty() && m.nodes.is_empty()) => to_membership(m)?,
        _ => Membership::default(),
    };
    Ok(StoredMembership::new(
        state.membership_log_id.as_ref().map(to_log_id),
        membership,
    ))
}

pub(super) fn entry(e: &Entry) -> store::LogEntry {
    use store::log_entry::Payload as Wire;
    let payload = match &e.payload {
        EntryPayload::Blank => Wire::Blank(true),
        EntryPayload::Normal(payload) => Wire::Normal(payload.0.clone()),
        EntryPayload::Membership(m) => Wire::Membership(membership(m)),
    };
    store::LogEntry {
        id: Some(log_id(&e.log_id)),
        payload: Some(payload),
    }
}

pub(super) fn to_entry(e: store::LogEntry) -> Result<Entry, Malformed> {
    use store::log_entry::Payload as Wire;
    let id = e.id.as_ref().ok_or(Malformed("entry without id"))?;
    let payload = match e.payload.ok_or(Malformed("entry without payload"))? {
        Wire::Blank(_) => EntryPayload::Blank,
        // A copy of its own: entries stay in memory for long, and would hold the whole frame that they came in.
        Wire::Normal(bytes) => EntryPayload::Normal(Payload(Bytes::copy_from_slice(&bytes))),
        Wire::Membership(m) => EntryPayload::Membership(to_membership(&m)?),
    };
    Ok(Entry {
        log_id: to_log_id(id),
        payload,
    })
}

/// An entry as a row of the log.
pub(super) fn entry_row(e: &Entry) -> Bytes {
    let message = entry(e);
    let mut row = BytesMut::with_capacity(1 + message.encoded_len());
    row.put_u8(ROW_VERSION);
    // Encoding into memory that grows does not fail.
    let _ = message.encode(&mut row);
    row.freeze()
}

/// A row of the log as an entry, sharing the row's bytes.
pub(super) fn to_entry_row(mut row: Bytes) -> Result<Entry, Malformed> {
    if row.first() != Some(&ROW_VERSION) {
        return Err(Malformed("log row of an unknown version"));
    }
    let body = row.split_off(1);
    to_entry(
        store::LogEntry::decode(body).map_err(|_| Malformed("log row that cannot be decoded"))?,
    )
}

pub(super) fn append_request(r: &AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(vote(&r.vote)),
        previous: r.prev_log_id.as_ref().map(log_id),
        entries: r.entries.iter().map(entry).collect(),
        committed: r.leader_commit.as_ref().map(log_id),
    }
}

pub(super) fn to_append_request(
    r: wire::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let vote = required_vote(r.vote.as_ref())?;
    let prev_log_id = r.previous.as_ref().map(to_log_id);
    let entries = r
        .entries
        .into_iter()
        .map(to_entry)
        .collect::<Result<Vec<_>, _>>()?;
    let mut next = prev_log_id
        .as_ref()
        .map_or(0, |id| id.index.wrapping_add(1));
    for e in &entries {
        if e.log_id.index != next {
            return Err(Malformed("entries with gaps"));
        }
        next = next.wrapping_add(1);
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit: r.committed.as_ref().map(to_log_id),
    })
}

pub(super) fn append_response(r: &AppendEntriesResponse<TypeConfig>) -> wire::AppendResponse {
    use wire::append_response::Result as R;
    let result = match r {
        AppendEntriesResponse::Success => R::Success(true),
        AppendEntriesResponse::PartialSuccess(Some(id)) => R::Partial(log_id(id)),
        // Nothing at all was taken: the leader has to look where the logs meet.
        AppendEntriesResponse::PartialSuccess(None) | AppendEntriesResponse::Conflict => {
            R::Conflict(true)
        }
        AppendEntriesResponse::HigherVote(v) => R::HigherVote(vote(v)),
    };
    wire::AppendResponse {
        result: Some(result),
    }
}

pub(super) fn to_append_response(
    r: &wire::AppendResponse,
) -> Result<AppendEntriesResponse<TypeConfig>, Malformed> {
    use wire::append_response::Result as R;
    Ok(
        match r
            .result
            .as_ref()
            .ok_or(Malformed("append response without result"))?
        {
            R::Success(_) => AppendEntriesResponse::Success,
            R::Partial(id) => AppendEntriesResponse::PartialSuccess(Some(to_log_id(id))),
            R::Conflict(_) => AppendEntriesResponse::Conflict,
            R::HigherVote(v) => AppendEntriesResponse::HigherVote(to_vote(v)),
        },
    )
}

pub(super) fn vote_request(r: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote(&r.vote)),
        last_log_id: r.last_log_id.as_ref().map(log_id),
        leadership_transfer: r.leadership_transfer,
    }
}

pub(super) fn to_vote_request(r: &wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let mut request = VoteRequest::new(
        required_vote(r.vote.as_ref())?,
        r.last_log_id.as_ref().map(to_log_id),
    );
    request.leadership_transfer = r.leadership_transfer;
    Ok(request)
}

pub(super) fn vote_response(r: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote(&r.vote)),
        granted: r.vote_granted,
        last_log_id: r.last_log_id.as_ref().map(log_id),
    }
}

pub(super) fn to_vote_response(
    r: &wire::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    let vote = required_vote(r.vote.as_ref())?;
    Ok(VoteResponse::new(
        vote,
        r.last_log_id.as_ref().map(to_log_id),
        r.granted,
    ))
}

pub(super) fn transfer_request(
    r: &TransferLeaderRequest<TypeConfig>,
) -> wire::TransferLeaderRequest {
    wire::TransferLeaderRequest {
        from: Some(vote(r.from_leader())),
        to: r.to_node_id().0,
        last_log_id: r.last_log_id().map(log_id),
    }
}

pub(super) fn to_transfer_request(
    r: &wire::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    Ok(TransferLeaderRequest::new(
        required_vote(r.from.as_ref())?,
        NodeId(r.to),
        r.last_log_id.as_ref().map(to_log_id),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_way_to_disk_and_back() {
        let id = to_log_id(&store::LogId { term: 3, index: 9 });
        let nodes: BTreeMap<NodeId, EmptyNode> =
            [1, 2, 3].map(|id| (NodeId(id), EmptyNode {})).into();
        let [one, two, three] = [1, 2, 3].map(NodeId);
        let members = Membership::new(vec![[one, two].into(), [two, three].into()], nodes).unwrap();
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Payload(Bytes::from_static(b"hello"))),
            EntryPayload::Membership(members),
        ] {
            let entry = Entry {
                log_id: id,
                payload,
            };
            assert_eq!(to_entry_row(entry_row(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn malformed_messages_are_errors() {
        assert!(to_entry_row(Bytes::new()).is_err());
        assert!(to_entry_row(Bytes::from_static(&[9, 1, 2])).is_err());
        assert!(to_entry_row(Bytes::from_static(&[1, 255])).is_err());
        assert!(to_entry(store::LogEntry::default()).is_err());
        assert!(to_append_request(wire::AppendRequest::default()).is_err());
        let gap = wire::AppendRequest {
            vote: Some(store::Vote::default()),
            entries: vec![entry(&Entry {
                log_id: to_log_id(&store::LogId { term: 1, index: 5 }),
                payload: EntryPayload::Blank,
            })],
            ..Default::default()
        };
        assert!(to_append_request(gap).is_err());
        let stranger = store::Membership {
            configs: vec![store::NodeSet { node_ids: vec![1] }],
            nodes: vec![],
        };
        assert!(to_membership(&stranger).is_err());
    }
}
