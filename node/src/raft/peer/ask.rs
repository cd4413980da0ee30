//! Ties each message that wants an answer to its answer.

use std::time::Duration;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    AppendRequest, AppendResponse, ForwardRequest, ForwardResponse, InviteRequest, InviteResponse,
    RelayRequest, RelayResponse, SplitRequest, SplitResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse, peer_message::Body,
};

use super::{Lane, PeerError, PeerLink};

/// A message that one kind of answer belongs to.
pub trait PeerAsk {
    /// What the other node says to it.
    type Answer;

    /// The message.
    fn into_body(self) -> Body;

    /// The answer; none if it is one to another message.
    fn answer(body: Body) -> Option<Self::Answer>;
}

/// Would the other node vote for this one?
pub struct PreVote(pub VoteRequest);

impl PeerAsk for PreVote {
    type Answer = VoteResponse;

    fn into_body(self) -> Body {
        Body::PreVote(self.0)
    }

    fn answer(body: Body) -> Option<VoteResponse> {
        VoteRequest::answer(body)
    }
}

macro_rules! asks {
    ($($ask:ident as $body:ident => $answer:ident as $answer_body:ident;)*) => {$(
        impl PeerAsk for $ask {
            type Answer = $answer;

            fn into_body(self) -> Body {
                Body::$body(self)
            }

            fn answer(body: Body) -> Option<$answer> {
                match body {
                    Body::$answer_body(answer) => Some(answer),
                    _ => None,
                }
            }
        }
    )*};
}

asks! {
    AppendRequest as Append => AppendResponse as AppendResponse;
    VoteRequest as Vote => VoteResponse as VoteResponse;
    TransferLeaderRequest as TransferLeader => TransferLeaderResponse as TransferLeaderResponse;
    RelayRequest as Relay => RelayResponse as RelayResponse;
    InviteRequest as Invite => InviteResponse as InviteResponse;
    ForwardRequest as Forward => ForwardResponse as ForwardResponse;
    SplitRequest as Split => SplitResponse as SplitResponse;
}

/// As [`PeerLink::call`], with the answer that belongs to the message.
pub fn ask<A: PeerAsk>(
    peers: &dyn PeerLink,
    to: NodeId,
    lane: Lane,
    shard: ShardId,
    ask: A,
    timeout: Duration,
) -> impl Future<Output = Result<A::Answer, PeerError>> + Send + use<A> {
    let call = peers.call(to, lane, shard, ask.into_body(), timeout);
    async move { A::answer(call.await?).ok_or(PeerError::OtherAnswer { node: to }) }
}
