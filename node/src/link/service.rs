//! The gRPC service: accepts links and watches, and checks who asks by the client certificate.

use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::NodeId;
use parlance_proto::link::v1::{
    ClusterUpdate, GatewayAnswer, GatewayFrame, GatewayQuestion, Hello, NodeFrame,
    Request as LinkRequest, WatchClusterRequest, Welcome, link_server::Link,
};
use parlance_proto::tls::{CertificateFacts, Role, role_of};
use parlance_proto::version::{LINK_PROTOCOLS, common, mismatch};
use parlance_tls::Seldom;
use rustls_pki_types::CertificateDer;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::registry::{Attached, Links};
use super::session::{Departing, LinkSession, stream_channel};
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
    /// Keeps gateways that are refused again and again from filling the log.
    pub refusals: Arc<Seldom>,
    /// The node stops.
    pub stop: CancellationToken,
}

/// Who sent a request, by the certificate that TLS has checked.
pub fn role_of_peer<T>(request: &Request<T>) -> Result<Role, Status> {
    let leaf = leaf_of_peer(request)?;
    role_of(&leaf).map_err(|e| Status::permission_denied(e.to_string()))
}

/// What the certificate of who sent a request says of itself.
pub fn certificate_of_peer<T>(request: &Request<T>) -> Result<CertificateFacts, Status> {
    let leaf = leaf_of_peer(request)?;
    CertificateFacts::of(&leaf).map_err(|e| Status::permission_denied(e.to_string()))
}

fn leaf_of_peer<T>(request: &Request<T>) -> Result<CertificateDer<'static>, Status> {
    let certificates = request.peer_certs();
    certificates
        .and_then(|chain| chain.first().cloned())
        .ok_or_else(|| Status::unauthenticated("a client certificate is needed"))
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
        let (certified, certificate) = (self.gateway_of(&request)?, certificate_of_peer(&request)?);
        let mut frames = request.into_inner();
        let hello = frames.message().await?.and_then(|frame| frame.hello);
        let hello = hello
            .ok_or_else(|| Status::invalid_argument("the first frame of a link must be a hello"))?;
        let protocol = check_hello(&hello)?;
        self.check_gateway_id(&certified, &hello.gateway_id)?;
        let attached = self.links.attach(&hello, certificate);
        let attached =
            attached.map_err(|e| self.refused("in_use", ErrorCode::Conflict, e.to_string()))?;
        let Attached {
            session,
            stream,
            resumed,
            received,
        } = attached;
        tracing::info!(gateway = hello.gateway_id, resumed, "link opened");
        let (to, departing, ending) = stream_channel();
        let welcome = self.welcome(protocol, resumed, received);
        let service = self.clone();
        tokio::spawn(async move {
            let welcome = NodeFrame {
                welcome: Some(welcome),
                ..NodeFrame::default()
            };
            let _ = to.send(Departing::from(welcome)).await;
            service.carry(&session, stream, frames, to).await;
            tracing::info!(gateway = session.gateway_id(), "link stream ended");
            ending.of(&session);
            service.links.detach(session, stream);
        });
        Ok(Response::new(Box::pin(departing)))
    }

    async fn watch_cluster(
        &self,
        request: Request<WatchClusterRequest>,
    ) -> Result<Response<StateStream>, Status> {
        // Any member of the cluster may know where the others are; secrets are for those that check tokens.
        let with_secrets = match role_of_peer(&request)? {
            Role::Gateway(certified) => {
                let who = Who::of(&request);
                let gateway = format!("gateway {:?}", request.get_ref().gateway_id);
                let checked = self.check_gateway_id(&certified, &request.get_ref().gateway_id);
                who.did("app secrets followed", &gateway, &checked);
                checked?;
                true
            }
            Role::Node(_) | Role::Admin => false,
        };
        let states = (self.watch)(with_secrets).map(Ok);
        Ok(Response::new(Box::pin(states)))
    }

    async fn attend(
        &self,
        request: Request<Streaming<GatewayAnswer>>,
    ) -> Result<Response<QuestionStream>, Status> {
        let certified = self.gateway_of(&request)?;
        let mut answers = request.into_inner();
        let first = answers.message().await?.unwrap_or_default();
        if first.gateway_id.is_empty() {
            return Err(Status::invalid_argument(
                "the first answer names the gateway",
            ));
        }
        self.check_gateway_id(&certified, &first.gateway_id)?;
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

/// The protocol that both speak.
fn check_hello(hello: &Hello) -> Result<u32, Status> {
    let protocol = common(LINK_PROTOCOLS, hello.protocol).ok_or_else(|| {
        Status::failed_precondition(mismatch("link", LINK_PROTOCOLS, hello.protocol))
    })?;
    if [&hello.gateway_id, &hello.link_id, &hello.instance_id]
        .iter()
        .any(|id| id.is_empty())
    {
        return Err(Status::invalid_argument(
            "a hello needs a gateway_id, a link_id and an instance_id",
        ));
    }
    Ok(protocol)
}

impl LinkService {
    /// The gateway whose certificate a request came with; a stream is for gateways alone.
    fn gateway_of<T>(&self, request: &Request<T>) -> Result<String, Status> {
        match role_of_peer(request)? {
            Role::Gateway(certified) => Ok(certified),
            role => {
                let message = format!("a link needs the certificate of a gateway, not of {role}");
                Err(self
                    .refused("role", ErrorCode::PermissionDenied, message)
                    .into())
            }
        }
    }

    /// A gateway says who it is, and its certificate must say so too.
    fn check_gateway_id(&self, certified: &str, said: &str) -> Result<(), Error> {
        if certified == said {
            return Ok(());
        }
        let message = format!(
            "the certificate is one of gateway {certified:?}, but gateway {said:?} asks with it: issue one with parlance ca issue gateway --id"
        );
        Err(self.refused("other_gateway", ErrorCode::PermissionDenied, message))
    }

    /// Refuses a gateway, in the log and as a count too.
    fn refused(&self, reason: &'static str, code: ErrorCode, message: String) -> Error {
        metrics::link_refused(reason);
        if self.refusals.tells(&message) {
            tracing::warn!(reason, "a link is refused: {message}");
        }
        Error::new(code, message)
    }

    fn welcome(&self, protocol: u32, resumed: bool, received: u64) -> Welcome {
        Welcome {
            protocol,
            node_id: self.node_id.0,
            cluster_id: (self.cluster_id)(),
            resumed,
            received,
        }
    }
}
