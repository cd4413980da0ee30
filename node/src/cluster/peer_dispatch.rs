//! Takes what other nodes say beside Raft to whom it concerns.

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::raft::v1::{
    InviteRequest, InviteResponse, LeaderAnnouncement, peer_message::Body,
};

use super::context::RuntimeSlot;
use super::heard::HeardNodes;
use crate::deliver::RelayReceiver;
use crate::meta::{Lead, Leaders};
use crate::raft::PeerHandler;

/// How this node answers an invitation.
type Accept = Box<dyn Fn(InviteRequest) -> BoxFuture<'static, InviteResponse> + Send + Sync>;

/// Takes what other nodes say beside Raft to whom it concerns.
pub(super) struct PeerDispatcher {
    leaders: Leaders,
    heard: HeardNodes,
    relays: Arc<RelayReceiver>,
    runtime: RuntimeSlot,
    accept: OnceLock<Accept>,
}

impl PeerDispatcher {
    pub(super) fn new(
        leaders: Leaders,
        heard: HeardNodes,
        relays: Arc<RelayReceiver>,
        runtime: RuntimeSlot,
    ) -> Self {
        Self {
            leaders,
            heard,
            relays,
            runtime,
            accept: OnceLock::new(),
        }
    }

    /// Invitations are answered by `accept` from now on.
    pub(super) fn on_invitation(&self, accept: Accept) {
        let _ = self.accept.set(accept); // once, at the start
    }

    fn hear(&self, from: NodeId, said: &LeaderAnnouncement) {
        self.heard.hear(from, said);
        for lead in &said.leads {
            let (term, node) = (lead.term, Some(from));
            self.leaders.learn(ShardId(lead.shard), Lead { term, node });
        }
    }
}

impl PeerHandler for PeerDispatcher {
    fn handle(&self, from: NodeId, shard: ShardId, body: Body) -> BoxFuture<'static, Option<Body>> {
        match body {
            Body::Relay(request) => {
                let relays = self.relays.clone();
                Box::pin(async move { Some(Body::RelayResponse(relays.receive(request).await)) })
            }
            Body::Leaders(said) => {
                self.hear(from, &said);
                Box::pin(std::future::ready(None))
            }
            Body::Invite(invitation) => {
                let accepted = self.accept.get().map(|accept| accept(invitation));
                Box::pin(async move { Some(Body::InviteResponse(accepted?.await)) })
            }
            Body::Forward(request) => {
                let runtime = self.runtime.read().clone();
                Box::pin(async move {
                    let answer = runtime?.meta_client().forwarded(request).await?;
                    Some(Body::ForwardResponse(answer))
                })
            }
            Body::Split(request) => {
                let runtime = self.runtime.read().clone();
                Box::pin(async move {
                    let answer = runtime?.splitter().requested(shard, request).await;
                    Some(Body::SplitResponse(answer))
                })
            }
            _ => Box::pin(std::future::ready(None)),
        }
    }
}
