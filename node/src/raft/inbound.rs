//! Raft's messages of other nodes, to the replicas here.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::raft::{AppendEntriesResponse, SnapshotResponse as LibrarySnapshotResponse};
use openraft::storage::Snapshot;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    SnapshotChunk, SnapshotHeader, SnapshotResponse, TransferLeaderResponse, call_error::Reason,
    peer_message::Body,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::convert::{self, Malformed};
use super::host::RaftHost;
use super::metrics;
use super::peer::{RaftInbound, call_error};
use super::replica::Replica;
use super::snapshot::SnapshotData;
use super::snapshot_receive;
use super::types::{TypeConfig, Vote};
use crate::store::room::Room;

/// Appends that take longer are answered by nothing, so that no more of them wait than come in this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

impl RaftInbound for RaftHost {
    fn handle(&self, from: NodeId, shard: ShardId, body: Body) -> BoxFuture<'static, Body> {
        let Some(replica) = self.get(shard) else {
            return futures::future::ready(call_error(
                Reason::UnknownShard,
                format!("no replica of shard {shard} here"),
            ))
            .boxed();
        };
        async move {
            match answer(&replica, from, body).await {
                Ok(answer) => answer,
                Err(Failure::Malformed(e)) => call_error(Reason::Refused, e.to_string()),
                Err(Failure::Stopped(reason)) => call_error(Reason::Stopped, reason),
            }
        }
        .boxed()
    }

    fn snapshot(
        &self,
        from: NodeId,
        header: SnapshotHeader,
        chunks: mpsc::Receiver<SnapshotChunk>,
    ) -> BoxFuture<'static, SnapshotResponse> {
        let replica = self.get(ShardId(header.shard));
        let receiving = self.parts.receiving.clone();
        async move {
            let installed = match replica {
                Some(replica) => install(&replica, receiving, from, header, chunks).await,
                None => Err("no replica of that shard here".to_owned()),
            };
            match installed {
                Ok(response) => SnapshotResponse {
                    vote: Some(convert::vote(&response.vote)),
                    error: String::new(),
                },
                Err(error) => SnapshotResponse { vote: None, error },
            }
        }
        .boxed()
    }
}

/// Why a message was not answered.
enum Failure {
    Malformed(Malformed),
    Stopped(String),
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Failure::Malformed(error)
    }
}

fn stopped(error: impl std::fmt::Display) -> Failure {
    Failure::Stopped(error.to_string())
}

/// Nobody speaks for another node.
fn check_sender(vote: &Vote, from: NodeId) -> Result<(), Malformed> {
    if vote.leader_id.voted_for == from {
        Ok(())
    } else {
        Err(Malformed("the vote is another node's"))
    }
}

async fn answer(replica: &Replica, from: NodeId, body: Body) -> Result<Body, Failure> {
    let raft = &replica.inner().raft;
    match body {
        Body::Append(request) => {
            let request = convert::to_append_request(request)?;
            check_sender(&request.vote, from)?;
            // Heartbeats go on: it follows its leader, and takes the entries once there is room.
            if !request.entries.is_empty() && replica.inner().room.now() == Room::Out {
                return Err(stopped("its disk is full"));
            }
            // While a snapshot is installed nothing is answered: who asked has given up long before.
            let response = timeout(ANSWER_WITHIN, raft.append_entries(request));
            let response = response.await.map_err(stopped)?.map_err(stopped)?;
            if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                replica.inner().turns.heard(from, Instant::now());
            }
            Ok(Body::AppendResponse(convert::append_response(&response)))
        }
        Body::Vote(request) | Body::PreVote(request)
            if is_quiet(replica, request.leadership_transfer) =>
        {
            Err(Failure::Stopped(
                "restarted a moment ago: does not vote yet".to_owned(),
            ))
        }
        Body::Vote(request) => {
            let request = convert::to_vote_request(&request)?;
            check_sender(&request.vote, from)?;
            let response = raft.vote(request).await.map_err(stopped)?;
            if response.vote_granted {
                replica.inner().turns.voted(Instant::now());
            }
            Ok(Body::VoteResponse(convert::vote_response(&response)))
        }
        Body::PreVote(request) => {
            let request = convert::to_vote_request(&request)?;
            check_sender(&request.vote, from)?;
            Ok(Body::VoteResponse(convert::vote_response(
                &raft.pre_vote(request).await.map_err(stopped)?,
            )))
        }
        Body::TransferLeader(request) => {
            let request = convert::to_transfer_request(&request)?;
            check_sender(request.from_leader(), from)?;
            let accepted = raft
                .handle_transfer_leader(request)
                .await
                .map_err(stopped)?;
            accepted.map_err(stopped)?;
            Ok(Body::TransferLeaderResponse(TransferLeaderResponse {}))
        }
        _ => Err(Failure::Malformed(Malformed("not a message of Raft"))),
    }
}

/// Whether a vote would break the promise to a leader that a restarted replica has forgotten. A leader that asks for
/// the election itself has given its lease up.
fn is_quiet(replica: &Replica, leadership_transfer: bool) -> bool {
    !leadership_transfer
        && replica
            .inner()
            .quiet_until
            .is_some_and(|until| Instant::now() < until)
}

async fn install(
    replica: &Replica,
    receiving: Arc<Semaphore>,
    from: NodeId,
    header: SnapshotHeader,
    chunks: mpsc::Receiver<SnapshotChunk>,
) -> Result<LibrarySnapshotResponse<TypeConfig>, String> {
    let vote = header
        .vote
        .as_ref()
        .map(convert::to_vote)
        .ok_or("no vote")?;
    check_sender(&vote, from).map_err(|e| e.to_string())?;
    if replica.inner().room.now() > Room::Enough {
        return Err("its disk has no room for a snapshot".to_owned());
    }
    // Both are kept until the rows are installed. The sender asks again; it must not wait with a view of its store open.
    let busy = "busy with another snapshot";
    let _shard = replica.inner().receiving.try_lock().map_err(|_| busy)?;
    let _node = receiving.try_acquire().map_err(|_| busy)?;
    let folder = replica.inner().folder.clone();
    let received =
        tokio::task::spawn_blocking(move || snapshot_receive::receive(&folder, &header, chunks));
    let received = received
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    metrics::snapshot("received");
    let snapshot = Snapshot {
        meta: received.meta.clone(),
        snapshot: SnapshotData::Received(received),
    };
    replica
        .inner()
        .raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(|e| e.to_string())
}
