//! What operators ask: one file for each kind of request, `service.rs` is the gRPC face.

mod apps;
mod bootstrap;
mod membership;
mod service;
mod status;

use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::store::v1::MetaCommand;
use parlance_proto::store::v1::{MetaOutcome, meta_command, meta_outcome, meta_refusal::Reason};

pub use bootstrap::accept_invitation;
pub use service::AdminService;

use crate::member::Member;
use crate::raft::ProposeError;

/// Proposes a command to the meta group and answers the new version of the map.
async fn propose(member: &Arc<Member>, body: meta_command::Body) -> Result<u64, Error> {
    let command = MetaCommand {
        time_ms: member.environment().now_ms(),
        body: Some(body),
    };
    let outcome = member.propose_meta(command).await.map_err(|e| match e {
        ProposeError::NotLeader { .. } => Error::new(
            ErrorCode::Unavailable,
            "the meta group has no leader that could be reached: try again",
        ),
        ProposeError::OutcomeUnknown => Error::new(
            ErrorCode::OutcomeUnknown,
            "the meta group's leader changed: look whether it was done",
        ),
        ProposeError::Stopped => Error::new(ErrorCode::ShuttingDown, "this node is stopping"),
    })?;
    version_of(outcome)
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
            "the meta group gave no outcome",
        )),
    }
}
