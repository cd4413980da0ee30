//! Commands for the meta shard: proposed here or at its leader, and waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{ForwardRequest, ForwardResponse};
use parlance_proto::store::v1::{
    MetaCommand, MetaOutcome, meta_command, meta_outcome, meta_refusal::Reason,
};
use prost::Message;
use tokio::time::{Duration, sleep, timeout};

use crate::clock::Environment;
use crate::machine::Outcome;
use crate::meta::Leaders;
use crate::raft::{Lane, PeerLink, ProposeError, Replica, ask};

/// How long a command for the meta shard may look for its leader.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between tries to reach the meta shard's leader.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Proposes to the meta shard. Cheap to clone.
#[derive(Clone)]
pub struct MetaClient {
    pub(super) node_id: NodeId,
    pub(super) meta_shard: Replica,
    pub(super) leaders: Leaders,
    pub(super) peers: Arc<dyn PeerLink>,
    pub(super) environment: Arc<dyn Environment>,
}

impl MetaClient {
    /// Proposes a command and answers the map's version with it. On return this node has applied it.
    ///
    /// # Errors
    /// What the meta shard refuses; no leader that could be reached; a leader that was lost before it answered.
    pub async fn propose(&self, body: meta_command::Body) -> Result<u64, Error> {
        let command = MetaCommand {
            time_ms: self.environment.now_ms(),
            level: level_of(&body),
            body: Some(body),
        };
        let outcome = self.propose_command(command).await.map_err(|e| match e {
            ProposeError::NotLeader { .. } => Error::new(
                ErrorCode::Unavailable,
                "the meta shard has no leader that could be reached: try again",
            ),
            ProposeError::OutcomeUnknown => Error::new(
                ErrorCode::OutcomeUnknown,
                "the meta shard's leader changed: look whether it was done",
            ),
            ProposeError::Stopped => Error::new(ErrorCode::ShuttingDown, "this node is stopping"),
        })?;
        version_of(outcome)
    }

    async fn propose_command(&self, command: MetaCommand) -> Result<MetaOutcome, ProposeError> {
        let payload: bytes::Bytes = command.encode_to_vec().into();
        let asking = AtomicBool::new(false);
        let tries = async {
            loop {
                asking.store(true, Ordering::Relaxed);
                let tried = self.try_propose(payload.clone()).await;
                asking.store(false, Ordering::Relaxed);
                match tried {
                    Err(ProposeError::NotLeader { .. }) => sleep(RETRY_DELAY).await,
                    done => return done,
                }
            }
        };
        let (outcome, index) = match timeout(TIMEOUT, tries).await {
            Ok(tried) => tried?,
            Err(_) if asking.load(Ordering::Relaxed) => return Err(ProposeError::OutcomeUnknown),
            Err(_) => return Err(ProposeError::NotLeader { leader: None }),
        };
        // Whoever asks this node next sees what it has just done. If that takes too long, it is done all the same.
        self.meta_shard.has_applied(index, TIMEOUT).await;
        Ok(outcome)
    }

    /// The outcome, and the index of the entry.
    async fn try_propose(&self, command: bytes::Bytes) -> Result<(MetaOutcome, u64), ProposeError> {
        match self.leaders.of(ShardId::META) {
            None => Err(ProposeError::NotLeader { leader: None }),
            Some(leader) if leader == self.node_id => self.propose_here(command).await,
            Some(leader) => {
                let (lane, request) = (Lane::Control, ForwardRequest { command });
                let answer = ask(&*self.peers, leader, lane, ShardId::META, request, TIMEOUT);
                match answer.await {
                    Ok(response) if !response.not_leader => {
                        let outcome = MetaOutcome::decode(response.outcome);
                        let outcome = outcome.map_err(|_| ProposeError::OutcomeUnknown)?;
                        Ok((outcome, response.index))
                    }
                    Ok(_) => Err(ProposeError::NotLeader { leader: None }),
                    Err(_) => Err(ProposeError::OutcomeUnknown),
                }
            }
        }
    }

    /// The outcome, and the index of the entry.
    async fn propose_here(
        &self,
        command: bytes::Bytes,
    ) -> Result<(MetaOutcome, u64), ProposeError> {
        let applied = self.meta_shard.propose(command).await?;
        match applied.outcome {
            Outcome::Meta(outcome) => Ok((outcome, applied.index)),
            _ => Err(ProposeError::OutcomeUnknown),
        }
    }

    /// A command that another node forwarded because it takes this one for the meta shard's leader.
    pub(super) async fn forwarded(&self, request: ForwardRequest) -> Option<ForwardResponse> {
        match self.propose_here(request.command).await {
            Ok((outcome, index)) => Some(ForwardResponse {
                outcome: outcome.encode_to_vec().into(),
                index,
                ..ForwardResponse::default()
            }),
            Err(ProposeError::NotLeader { leader }) => Some(ForwardResponse {
                not_leader: true,
                leader_node_id: NodeId::or_zero(leader),
                ..ForwardResponse::default()
            }),
            Err(_) => None, // the caller learns that the outcome is unknown
        }
    }
}

/// What a node must speak to apply a command. One that raises the level stops those that cannot follow.
fn level_of(body: &meta_command::Body) -> u32 {
    match body {
        meta_command::Body::RaiseFeatureLevel(raise) => raise.level,
        _ => 1,
    }
}

fn version_of(outcome: MetaOutcome) -> Result<u64, Error> {
    match outcome.result {
        Some(meta_outcome::Result::MapVersion(version)) => Ok(version),
        Some(meta_outcome::Result::Refusal(refusal)) => {
            let code = match refusal.reason() {
                Reason::NotFound => ErrorCode::NotFound,
                Reason::Exists => ErrorCode::Conflict,
                Reason::Forbidden | Reason::Unspecified => ErrorCode::PreconditionFailed,
            };
            Err(Error::new(code, refusal.message))
        }
        None => Err(Error::new(
            ErrorCode::Internal,
            "the meta shard answered nothing",
        )),
    }
}
