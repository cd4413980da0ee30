//! Connections between nodes: who is let in, who is dialled, and when again.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::ids::NodeId;
use parlance_proto::raft::v1::{InviteRequest, VoteRequest, peer_message::Body};
use parlance_proto::tls::Role;
use parlance_tls::ClusterTls;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::fixture::*;
use crate::raft::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_is_not_dialled_for_ever() {
    let cluster = Cluster::start(config()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let leader = leader(&cluster.nodes, ONE).await;
    let link = &leader.link;
    link.post(NodeId(9), Lane::Control, ONE, vote());
    assert!(link.dialled().contains(&NodeId(9)));
    eventually("nobody has anything to say to it", || {
        (!link.dialled().contains(&NodeId(9))).then_some(())
    })
    .await;
    let mut others = cluster.nodes.iter().filter(|node| node.id != leader.id);
    assert!(others.all(|node| link.dialled().contains(&node.id)));
    cluster.stop().await;
}

fn vote() -> Body {
    Body::Vote(VoteRequest {
        vote: Some(Default::default()),
        ..Default::default()
    })
}

fn invite() -> Body {
    Body::Invite(InviteRequest::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let cluster = Cluster::start(config()).await;
    propose(&cluster.nodes, ONE, "first").await;
    let quic = |id| QuicConfig::new(NodeId(id), ([127, 0, 0, 1], 0).into(), config());
    let start = |id, authority: &Authority, role| {
        let (tls, nodes) = (authority.identity(role), cluster.directory.clone());
        QuicLink::start(&quic(id), &tls, nodes, Arc::new(InviteHandler)).unwrap()
    };
    let link = |id, role| start(id, &cluster.authority, role);
    let ask = |link: &QuicLink, body| {
        link.call(NodeId(1), Lane::Control, ONE, body, Duration::from_secs(3))
    };

    // A node without a cluster may invite and be invited, and nothing else.
    let outsider = link(9, Role::Node(9));
    assert!(matches!(
        ask(&outsider, invite()).await,
        Ok(Body::InviteResponse(_))
    ));
    assert!(matches!(
        ask(&outsider, vote()).await,
        Err(PeerError::Refused { .. })
    ));
    // A hello with another id than the certificate's.
    let liar = link(2, Role::Node(9));
    assert!(matches!(
        ask(&liar, invite()).await,
        Err(PeerError::Unreachable { .. })
    ));
    // A gateway's certificate is no node's.
    let gateway = link(9, Role::Gateway("g".into()));
    assert!(matches!(
        ask(&gateway, invite()).await,
        Err(PeerError::Unreachable { .. })
    ));
    // A known node with another data directory.
    let wiped = link(3, Role::Node(3));
    let identity = LocalIdentity {
        cluster_id: CLUSTER.into(),
        store_id: "another".into(),
    };
    wiped.attach(identity, cluster.nodes[0].host.inbound());
    let answer = ask(&wiped, vote()).await;
    assert!(
        matches!(&answer, Err(PeerError::Refused { reason, .. }) if reason.contains("data directory")),
        "{answer:?}"
    );
    // A vote in another node's name.
    let member = cluster
        .nodes
        .iter()
        .find(|node| node.id == NodeId(2))
        .unwrap();
    assert!(matches!(
        ask(&member.link, vote()).await,
        Err(PeerError::Refused { .. })
    ));
    // Another CA.
    let other_dir = tempfile::tempdir().unwrap();
    let foreign = start(2, &Authority::new(other_dir.path()), Role::Node(2));
    assert!(matches!(
        ask(&foreign, invite()).await,
        Err(PeerError::Unreachable { .. })
    ));

    propose(&cluster.nodes, ONE, "still here").await;
    for link in [outsider, liar, gateway, wiped, foreign] {
        link.shutdown().await;
    }
    cluster.stop().await;
}

const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// No test waits for that.
const LATER: Duration = Duration::from_secs(3600);

/// Two nodes without a cluster, of which none dials again or gives a connection up by itself if not told to.
struct Two {
    redial_after: Duration,
    nodes: Arc<Nodes>,
    tls: [Arc<ClusterTls>; 2],
    _dir: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        Self {
            redial_after: LATER,
            nodes: Arc::default(),
            tls: [1, 2].map(|id| authority.identity(Role::Node(id))),
            _dir: dir,
        }
    }

    /// Starts one, at its old address if it had one, and lets the other know where it is.
    async fn start(&self, id: u64) -> QuicLink {
        let known = self.nodes.0.lock().get(&NodeId(id)).cloned();
        let listen = known.map_or(([127, 0, 0, 1], 0).into(), |(address, _)| address);
        let quic = QuicConfig {
            redial_after: self.redial_after,
            idle_max: LATER,
            ..QuicConfig::new(NodeId(id), listen, config())
        };
        let tls = &self.tls[id as usize - 1];
        let link = eventually("its address is free", || {
            QuicLink::start(&quic, tls, self.nodes.clone(), Arc::new(InviteHandler)).ok()
        })
        .await;
        let address = (link.local_addr().unwrap(), String::new());
        self.nodes.0.lock().insert(NodeId(id), address);
        link
    }
}

async fn ask(link: &QuicLink, to: u64) -> Result<Body, PeerError> {
    link.call(NodeId(to), Lane::Control, ONE, invite(), ANSWER_WITHIN)
        .await
}

async fn is_answered(link: &QuicLink, to: u64) {
    let deadline = Instant::now() + ANSWER_WITHIN * 4;
    while let Err(error) = ask(link, to).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_is_dialled_as_soon_as_it_is_heard() {
    let two = Two::new();
    let first = two.start(1).await;
    let away = ask(&first, 2).await;
    assert!(
        matches!(away, Err(PeerError::Unreachable { .. })),
        "{away:?}"
    );
    let second = two.start(2).await;
    ask(&second, 1).await.unwrap();
    is_answered(&first, 2).await;
    first.shutdown().await;
    second.shutdown().await;
}

/// A process that was killed says no word of it: what it is sent would be lost until the connection counts as dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_a_killed_process_ends_when_the_next_one_is_heard() {
    let two = Arc::new(Two::new());
    let first = two.start(1).await;
    let process = tokio::runtime::Runtime::new().unwrap();
    let killed = process.spawn({
        let two = two.clone();
        async move { two.start(2).await }
    });
    let killed = killed.await.unwrap();
    ask(&first, 2).await.unwrap();
    process.shutdown_background();
    drop(killed);
    let second = two.start(2).await;
    ask(&second, 1).await.unwrap();
    is_answered(&first, 2).await;
    first.shutdown().await;
    second.shutdown().await;
}

/// It may have lost only what it had dialled itself, and what is under way in the other direction would be lost too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dials_anew_keeps_the_connection_that_it_was_dialled_by() {
    let two = Two {
        redial_after: Duration::from_millis(10),
        ..Two::new()
    };
    let (first, second) = (two.start(1).await, two.start(2).await);
    ask(&first, 2).await.unwrap();
    ask(&second, 1).await.unwrap();
    let kept = first.connection(NodeId(2)).unwrap();
    let lost = second.connection(NodeId(1)).unwrap();
    lost.close(0u32.into(), b"lost");
    eventually("it has dialled anew", || {
        let anew = second.connection(NodeId(1))?;
        (anew.stable_id() != lost.stable_id()).then_some(())
    })
    .await;
    is_answered(&second, 1).await;
    ask(&first, 2).await.unwrap();
    assert_eq!(kept.close_reason(), None);
    assert_eq!(
        first.connection(NodeId(2)).unwrap().stable_id(),
        kept.stable_id()
    );
    first.shutdown().await;
    second.shutdown().await;
}
