//! P2 from the other end: a leader that was paused does not answer with what it knew before.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::channel::mpsc;
use parlance_proto::client::v1::{Direction, Event};
use parlance_proto::link::v1::link_client::LinkClient;
use parlance_proto::link::v1::{
    GatewayFrame, Hello, History, NodeFrame, Request, request, response,
};
use parlance_proto::tls::Role;
use parlance_proto::version::{LINK_PROTOCOLS, greeting};
use parlance_tests::admin::channel;
use parlance_tests::client::Connection;
use parlance_tests::cluster::shards::{owner, slot_of};
use parlance_tests::cluster::{APP, Cluster, ClusterSpec};
use prost::Message as _;
use tokio::time::timeout;
use tonic::Streaming;

const SOON: Duration = Duration::from_secs(20);

/// A link to one node, as a gateway would have it.
struct Link {
    frames: mpsc::Sender<GatewayFrame>,
    incoming: Streaming<NodeFrame>,
}

impl Link {
    async fn open(cluster: &Cluster, node_id: u64) -> Result<Self> {
        let identity = cluster.authority.issue("probe", Role::Gateway)?;
        let address = cluster.address.link(node_id).to_string();
        let channel = channel(&address, &cluster.operator.ca, Some(&identity)).await?;
        let (mut frames, outgoing) = mpsc::channel(2);
        let hello = Hello {
            protocol: greeting(LINK_PROTOCOLS),
            gateway_id: "probe".into(),
            link_id: "probe".into(),
            received: 0,
            version: String::new(),
        };
        frames.try_send(GatewayFrame {
            hello: Some(hello),
            ..GatewayFrame::default()
        })?;
        let mut incoming = LinkClient::new(channel).open(outgoing).await?.into_inner();
        let first = incoming.message().await?.context("no first frame")?;
        ensure!(first.welcome.is_some(), "no welcome: {first:?}");
        Ok(Self { frames, incoming })
    }

    fn ask(&mut self, shard: u32, history: History) -> Result<()> {
        let request = Request {
            id: 1,
            shard,
            body: Some(request::Body::History(history)),
        };
        Ok(self.frames.try_send(GatewayFrame {
            number: 1,
            requests: vec![request.encode_to_vec().into()],
            ..GatewayFrame::default()
        })?)
    }

    async fn answer(&mut self) -> Result<response::Body> {
        loop {
            let frame = timeout(SOON, self.incoming.next()).await?;
            let frame = frame.context("the link ended")??;
            if let Some(response) = frame.responses.into_iter().next() {
                return response.body.context("an empty answer");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_waited_in_a_paused_leader_sees_what_was_acknowledged_since() -> Result<()> {
    let mut cluster = Cluster::start(ClusterSpec::default()).await?;
    let gateways = cluster.gateway_addresses();
    let mut alice = Connection::logged_in(&gateways[0], &cluster.signer.token("alice")).await?;
    let conversation = alice.send("bob", "m1", "before").await?.conversation_id;
    let status = cluster.any_admin().await?.status().await?;
    let owner = owner(&status, slot_of(&conversation)?)?;
    let (shard, leader) = (owner.shard, owner.leader);

    let mut link = Link::open(&cluster, leader).await?;
    cluster.node(leader)?.freeze()?;
    link.ask(
        shard,
        History {
            app_id: APP.into(),
            conversation_id: conversation,
            user_id: "alice".into(),
            start_seq: 1,
            limit: 10,
            direction: Direction::Forward.into(),
        },
    )?;
    let stored = alice
        .send("bob", "m2", "while the leader was paused")
        .await?;
    ensure!(stored.seq == 2, "{stored:?}");
    cluster.node(leader)?.thaw()?;
    match link.answer().await? {
        response::Body::NotLeader(_) | response::Body::Error(_) => {}
        response::Body::History(page) => {
            let events: Result<Vec<_>, _> =
                page.events.iter().map(|e| Event::decode(&e[..])).collect();
            let seqs: Vec<u64> = events?.iter().map(|event| event.seq).collect();
            ensure!(seqs == [1, 2], "an old picture: {seqs:?}");
        }
        other => anyhow::bail!("unexpected: {other:?}"),
    }
    Ok(())
}
