//! The gRPC service: accepts links and watches, and checks who asks by the client certificate.

use std::pin::Pin;
use std::sync::Arc;

use parlance_proto::limits::LINK_PROTOCOL_VERSION;
use parlance_proto::link::v1::{
    ClusterState, GatewayFrame, Hello, NodeFrame, WatchClusterRequest, Welcome, link_server::Link,
};
use parlance_proto::tls::{Role, role_of};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::registry::{Attached, Links};
use super::request::dispatch;
use super::session::stream_channel;
use super::watch::watch_cluster;
use crate::meta::{Leaders, MetaWatch};
use crate::raft::NodeId;
use crate::shard::Shards;

/// What the service needs of its node.
#[derive(Clone)]
pub struct LinkService {
    /// This node.
    pub node_id: NodeId,
    /// Its shards.
    pub shards: Shards,
    /// Its link sessions.
    pub links: Links,
    /// The cluster map and the apps.
    pub meta: MetaWatch,
    /// Who leads what.
    pub leaders: Leaders,
    /// The node stops.
    pub stop: CancellationToken,
}

/// Who sent a request, by the certificate that TLS has checked.
pub fn role_of_peer<T>(request: &Request<T>) -> Result<Role, Status> {
    let certificates = request
        .peer_certs()
        .ok_or_else(|| Status::unauthenticated("a client certificate is needed"))?;
    let leaf = certificates
        .first()
        .ok_or_else(|| Status::unauthenticated("a client certificate is needed"))?;
    role_of(leaf).map_err(|e| Status::permission_denied(e.to_string()))
}

type FrameStream = Pin<Box<dyn Stream<Item = Result<NodeFrame, Status>> + Send>>;
type StateStream = Pin<Box<dyn Stream<Item = Result<ClusterState, Status>> + Send>>;

#[tonic::async_trait]
impl Link for LinkService {
    type OpenStream = FrameStream;
    type WatchClusterStream = StateStream;

    async fn open(
        &self,
        request: Request<Streaming<GatewayFrame>>,
    ) -> Result<Response<FrameStream>, Status> {
        if role_of_peer(&request)? != Role::Gateway {
            return Err(Status::permission_denied(
                "a link needs a certificate with the role gateway",
            ));
        }
        let mut frames = request.into_inner();
        let hello = frames.message().await?.and_then(|frame| frame.hello);
        let hello = hello
            .ok_or_else(|| Status::invalid_argument("the first frame of a link must be a hello"))?;
        check_hello(&hello)?;
        let attached = self.links.attach(&hello);
        let Attached {
            session,
            stream,
            resumed,
            received,
        } = attached;
        tracing::info!(gateway = hello.gateway_id, resumed, "link opened");
        let (to, from) = stream_channel();
        let welcome = self.welcome(resumed, received);
        let service = self.clone();
        tokio::spawn(async move {
            let _ = to
                .send(Ok(NodeFrame {
                    welcome: Some(welcome),
                    ..NodeFrame::default()
                }))
                .await;
            tokio::select! {
                () = session.write(stream, to.clone()) => {}
                () = service.read(&session, frames) => {}
                () = service.stop.cancelled() => {}
            }
            tracing::info!(gateway = session.gateway_id(), "link stream ended");
            service.links.detach(session, stream);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(from))))
    }

    async fn watch_cluster(
        &self,
        request: Request<WatchClusterRequest>,
    ) -> Result<Response<StateStream>, Status> {
        // Any member of the cluster may know where the others are; secrets are for those that check tokens.
        let with_secrets = role_of_peer(&request)? == Role::Gateway;
        let states = watch_cluster(self.meta.clone(), self.leaders.clone(), self.stop.clone());
        let states = states.map(move |mut state| {
            if !with_secrets {
                state.apps.clear();
            }
            Ok(state)
        });
        Ok(Response::new(Box::pin(states)))
    }
}

fn check_hello(hello: &Hello) -> Result<(), Status> {
    if hello.protocol_version != LINK_PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the gateway speaks link protocol {}, this node speaks {LINK_PROTOCOL_VERSION}",
            hello.protocol_version
        )));
    }
    if hello.gateway_id.is_empty() || hello.link_id.is_empty() {
        return Err(Status::invalid_argument(
            "a hello needs a gateway_id and a link_id",
        ));
    }
    Ok(())
}

impl LinkService {
    fn welcome(&self, resumed: bool, received: u64) -> Welcome {
        let map = self.meta.borrow().map.clone();
        Welcome {
            protocol_version: LINK_PROTOCOL_VERSION,
            node_id: self.node_id,
            cluster_id: map.map(|map| map.cluster_id).unwrap_or_default(),
            resumed,
            received,
        }
    }

    async fn read(&self, session: &Arc<super::LinkSession>, mut frames: Streaming<GatewayFrame>) {
        while let Ok(Some(frame)) = frames.message().await {
            session.acknowledge(frame.ack);
            if frame.number > 0 && !session.receive(frame.number) {
                continue;
            }
            for request in frame.requests {
                dispatch(self, session, request);
            }
        }
    }
}
