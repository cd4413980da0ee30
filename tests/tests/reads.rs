//! P2 from the other end: a leader that was paused does not answer with what it knew before.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::client::v1::{Direction, Event};
use parlance_proto::link::v1::{History, request, response};
use parlance_proto::tls::Role;
use parlance_tests::client::Connection;
use parlance_tests::cluster::shards::{owner, slot_of};
use parlance_tests::cluster::{APP, Cluster, ClusterSpec};
use parlance_tests::node_link::{LinkAddress, NodeLink};
use prost::Message as _;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_waited_in_a_paused_leader_sees_what_was_acknowledged_since() -> Result<()> {
    let mut cluster = Cluster::start(ClusterSpec::default()).await?;
    let gateways = cluster.gateway_addresses();
    let mut alice = Connection::logged_in(&gateways[0], &cluster.signer.token("alice")).await?;
    let conversation = alice.send("bob", "m1", "before").await?.conversation_id;
    let status = cluster.any_admin().await?.status().await?;
    let owner = owner(&status, slot_of(&conversation)?)?;
    let (shard, leader) = (owner.shard, owner.leader);

    let gateway_id = "probe".to_owned();
    let mut link = NodeLink::open(&LinkAddress {
        node: cluster.address.link(leader).to_string(),
        identity: cluster
            .authority
            .issue(&gateway_id, Role::Gateway(gateway_id.clone()))?,
        gateway_id,
    })
    .await?;
    cluster.node(leader)?.freeze()?;
    let page = History {
        app_id: APP.into(),
        conversation_id: conversation,
        user_id: "alice".into(),
        start_seq: 1,
        limit: 10,
        direction: Direction::Forward.into(),
        max_bytes: 0,
    };
    let asked = link.ask(vec![(shard, request::Body::History(page))]);
    ensure!(asked.is_some(), "the link takes nothing");
    let stored = alice
        .send("bob", "m2", "while the leader was paused")
        .await?;
    ensure!(stored.seq == 2, "{stored:?}");
    cluster.node(leader)?.thaw()?;
    let answer = timeout(SOON, link.answer()).await??;
    match answer.body.context("an empty answer")? {
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
