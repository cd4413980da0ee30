//! The gRPC service: accepts links and watches, and checks who asks by the client certificate.

use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use parlance_proto::ids::NodeId;
use parlance_proto::link::v1::{
    ClusterUpdate, GatewayAnswer, GatewayFrame, GatewayQuestion, Hello, NodeFrame,
    Request as LinkRequest, WatchClusterRequest, Welcome, link_server::Link,
};
use parlance_proto::tls::{Role, role_of};
use parlance_proto::version::{LINK_PROTOCOLS, common, mismatch};
use prost::Message as _;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::registry::{Attached, Links};
use super::session::{Arrived, LinkSession, stream_channel};
use crate::audit::Who;
use crate::metrics;

/// The cluster's state and its changes.
pub type WatchStream = Pin<Box<dyn Stream<Item = ClusterUpdate> + Send>>;

/// Takes a link's request.
type Dispatch = dyn Fn(&Arc<LinkSession>, LinkRequest) + Send + Sync;

/// The service, and what it needs of its node.
#[derive(Clone)]
pub struct LinkService {
    /// This node.
    pub node_id: NodeId,
    /// Its link sessions.
    pub links: Links,
    /// The cluster that the node is in; empty if it is in none yet.
    pub cluster_id: Arc<dyn Fn() -> String + Send + Sync>,
    /// Takes a request; its answer goes to the link.
    pub dispatch: Arc<Dispatch>,
    /// The cluster's state, with the apps' secrets or without the apps.
    pub watch: Arc<dyn Fn(bool) -> WatchStream + Send + Sync>,
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
type QuestionStream = Pin<Box<dyn Stream<Item = Result<GatewayQuestion, Status>> + Send>>;
type StateStream = Pin<Box<dyn Stream<Item = Result<ClusterUpdate, Status>> + Send>>;

#[tonic::async_trait]
impl Link for LinkService {
    type OpenStream = FrameStream;
    type WatchClusterStream = StateStream;
    type AttendStream = QuestionStream;

    async fn open(
        &self,
        request: Request<Streaming<GatewayFrame>>,
    ) -> Result<Response<FrameStream>, Status> {
        check_gateway(&request)?;
        let mut frames = request.into_inner();
        let hello = frames.message().await?.and_then(|frame| frame.hello);
        let hello = hello
            .ok_or_else(|| Status::invalid_argument("the first frame of a link must be a hello"))?;
        let protocol = check_hello(&hello)?;
        let attached = self.links.attach(&hello);
        let Attached {
            session,
            stream,
            resumed,
            received,
        } = attached;
        tracing::info!(gateway = hello.gateway_id, resumed, "link opened");
        let (to, from) = stream_channel();
        let welcome = self.welcome(protocol, resumed, received);
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
        if with_secrets {
            let who = Who::of(&request);
            let gateway = format!("gateway {:?}", request.get_ref().gateway_id);
            who.did("app secrets followed", &gateway, &Ok(()));
        }
        let states = (self.watch)(with_secrets).map(Ok);
        Ok(Response::new(Box::pin(states)))
    }

    async fn attend(
        &self,
        request: Request<Streaming<GatewayAnswer>>,
    ) -> Result<Response<QuestionStream>, Status> {
        check_gateway(&request)?;
        let mut answers = request.into_inner();
        let first = answers.message().await?.unwrap_or_default();
        if first.gateway_id.is_empty() {
            return Err(Status::invalid_argument(
                "the first answer names the gateway",
            ));
        }
        let (attendance, questions) = self.links.gateways().attend(first.gateway_id);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let read = async {
                while let Ok(Some(answer)) = answers.message().await {
                    attendance.answered(answer);
                }
            };
            stop.run_until_cancelled(read).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(questions))))
    }
}

/// A stream is for gateways alone.
fn check_gateway<T>(request: &Request<T>) -> Result<(), Status> {
    match role_of_peer(request)? {
        Role::Gateway => Ok(()),
        _ => Err(Status::permission_denied(
            "a link needs a certificate with the role gateway",
        )),
    }
}

/// The protocol that both speak.
fn check_hello(hello: &Hello) -> Result<u32, Status> {
    let protocol = common(LINK_PROTOCOLS, hello.protocol).ok_or_else(|| {
        Status::failed_precondition(mismatch("link", LINK_PROTOCOLS, hello.protocol))
    })?;
    if hello.gateway_id.is_empty() || hello.link_id.is_empty() {
        return Err(Status::invalid_argument(
            "a hello needs a gateway_id and a link_id",
        ));
    }
    Ok(protocol)
}

impl LinkService {
    fn welcome(&self, protocol: u32, resumed: bool, received: u64) -> Welcome {
        Welcome {
            protocol,
            node_id: self.node_id.0,
            cluster_id: (self.cluster_id)(),
            resumed,
            received,
        }
    }

    async fn read(&self, session: &Arc<LinkSession>, mut frames: Streaming<GatewayFrame>) {
        while let Ok(Some(frame)) = frames.message().await {
            let requests = frame.requests.into_iter().map(LinkRequest::decode);
            let requests: Vec<LinkRequest> = match requests.collect() {
                Ok(requests) => requests,
                Err(error) => {
                    // Not resumed, the gateway asks again elsewhere for what has no answer.
                    let gateway = session.gateway_id();
                    tracing::warn!(gateway, %error, "link closed: a request cannot be read");
                    metrics::link_closed("unreadable");
                    return session.close();
                }
            };
            session.acknowledge(frame.ack);
            if frame.number > 0 {
                match session.receive(frame.number) {
                    Arrived::Next => {}
                    Arrived::Again => continue,
                    Arrived::Early => {
                        let (gateway, number) = (session.gateway_id(), frame.number);
                        tracing::warn!(gateway, number, "a link lost frames: its stream ends");
                        return;
                    }
                }
            }
            for request in requests {
                (self.dispatch)(session, request);
            }
        }
    }
}
