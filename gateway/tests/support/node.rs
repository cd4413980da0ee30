//! Fake nodes: the link service over real gRPC and TLS, before one world.

use std::pin::Pin;
use std::sync::Arc;

use parlance_proto::link::v1::link_server::{Link, LinkServer};
use parlance_proto::link::v1::{
    ClusterUpdate, GatewayAnswer, GatewayFrame, GatewayQuestion, NodeFrame, Request,
    WatchClusterRequest, Welcome,
};
use parlance_proto::tls::Role;
use parlance_proto::version::{LINK_PROTOCOLS, common};
use parlance_testkit::certs::Authority;
use parlance_testkit::peer::NodePeer;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::{Status, Streaming};

use super::world::{LinkState, World};

/// Apps in one message.
const APPS_OF_PAGE: usize = 10_000;

/// One fake node.
pub async fn start(id: u64, authority: &Authority, world: Arc<World>) -> NodePeer {
    let files = authority.issue(&format!("node-{id}"), Role::Node(id));
    let service = LinkServer::new(Service { id, world });
    let services = Routes::new(service);
    NodePeer::start(&files.unwrap(), services).await.unwrap()
}

struct Service {
    id: u64,
    world: Arc<World>,
}

#[tonic::async_trait]
impl Link for Service {
    type OpenStream = ReceiverStream<Result<NodeFrame, Status>>;
    type AttendStream = Pin<Box<dyn Stream<Item = Result<GatewayQuestion, Status>> + Send>>;
    type WatchClusterStream = Pin<Box<dyn Stream<Item = Result<ClusterUpdate, Status>> + Send>>;

    async fn open(
        &self,
        request: tonic::Request<Streaming<GatewayFrame>>,
    ) -> Result<tonic::Response<Self::OpenStream>, Status> {
        self.reachable()?;
        let mut incoming = request.into_inner();
        let hello = incoming
            .message()
            .await?
            .and_then(|f| f.hello)
            .expect("hello first");
        let (outgoing, frames) = mpsc::channel(4096);
        let key = (self.id, hello.link_id);
        let stream = {
            let mut inner = self.world.inner.lock();
            let resumed = inner.links.contains_key(&key);
            inner.welcomes.push(resumed);
            let link = inner.links.entry(key.clone()).or_default();
            link.unacked.retain(|f| f.number > hello.received);
            let welcome = Welcome {
                protocol: common(LINK_PROTOCOLS, hello.protocol).unwrap(),
                node_id: self.id,
                cluster_id: "cluster".into(),
                resumed,
                received: link.received,
            };
            outgoing
                .try_send(Ok(NodeFrame {
                    welcome: Some(welcome),
                    ..NodeFrame::default()
                }))
                .unwrap();
            link.unacked
                .iter()
                .for_each(|f| outgoing.try_send(Ok(f.clone())).unwrap());
            link.outgoing = Some(outgoing);
            link.stream += 1;
            link.stream
        };
        let world = self.world.clone();
        tokio::spawn(async move {
            while let Ok(Some(frame)) = incoming.message().await {
                let mut inner = world.inner.lock();
                let same = |l: &&mut LinkState| l.stream == stream && l.outgoing.is_some();
                let Some(link) = inner.links.get_mut(&key).filter(same) else {
                    return;
                };
                link.unacked.retain(|f| f.number > frame.ack);
                if frame.number != 0 {
                    assert_eq!(
                        frame.number,
                        link.received + 1,
                        "frames come in order, each once"
                    );
                    link.received = frame.number;
                }
                for request in frame.requests {
                    inner.take(&key, Request::decode(request).unwrap());
                }
            }
        });
        Ok(tonic::Response::new(ReceiverStream::new(frames)))
    }

    async fn attend(
        &self,
        _: tonic::Request<Streaming<GatewayAnswer>>,
    ) -> Result<tonic::Response<Self::AttendStream>, Status> {
        self.reachable()?;
        Ok(tonic::Response::new(Box::pin(tokio_stream::pending())))
    }

    async fn watch_cluster(
        &self,
        _: tonic::Request<WatchClusterRequest>,
    ) -> Result<tonic::Response<Self::WatchClusterStream>, Status> {
        self.reachable()?;
        let inner = self.world.inner.lock();
        let whole = tokio_stream::iter(pages(inner.whole.clone()).map(Ok));
        let changes = BroadcastStream::new(inner.changes.subscribe());
        let changes = changes.map(|change| Ok(change.unwrap()));
        Ok(tonic::Response::new(Box::pin(whole.chain(changes))))
    }
}

/// In messages that a link carries, all but apps in the last.
fn pages(mut whole: ClusterUpdate) -> impl Iterator<Item = ClusterUpdate> + Send {
    let mut apps = std::mem::take(&mut whole.apps);
    whole.apps = apps.split_off(apps.len().saturating_sub(APPS_OF_PAGE));
    let cluster_id = whole.cluster_id.clone();
    let pages: Vec<_> = (apps.chunks(APPS_OF_PAGE))
        .map(|apps| ClusterUpdate {
            cluster_id: cluster_id.clone(),
            apps: apps.to_vec(),
            more: true,
            ..ClusterUpdate::default()
        })
        .collect();
    pages.into_iter().chain([whole])
}

impl Service {
    fn reachable(&self) -> Result<(), Status> {
        if self.world.inner.lock().cut.contains(&self.id) {
            return Err(Status::unavailable("cut off"));
        }
        Ok(())
    }
}
