//! P5 under `node replace`: nobody leaves before another has the place, one move at a time, and a replacement that dies on the
//! way is no dead end.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_proto::client::v1::HistoryRequest;
use parlance_tests::client::Connection;
use parlance_tests::cluster::{Cluster, ClusterSpec, START_WITHIN, STOP_WITHIN};
use parlance_tests::logs;
use parlance_tests::wait::until;

const MOVED_WITHIN: Duration = Duration::from_secs(60);

/// Whether every shard's voters, as node 3 knows them, are these.
async fn voters(cluster: &Cluster, expected: &[u64]) -> Result<()> {
    let status = cluster.admin(3).await?.status().await?;
    for shard in status.shards {
        let mut voters = shard.voters.clone();
        voters.sort_unstable();
        ensure!(voters == expected && shard.health == "ok", "{shard:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_that_dies_before_it_votes_is_replaced_and_the_old_node_serves_until_then()
-> Result<()> {
    let mut cluster = Cluster::start(ClusterSpec::default()).await?;
    let gateways = cluster.gateway_addresses();
    let mut alice = Connection::logged_in(&gateways[0], &cluster.signer.token("alice")).await?;
    alice.send("bob", "m1", "before").await?;
    for new in [4, 5] {
        cluster.add_node(new)?;
        cluster.node(new)?.start()?;
    }
    cluster.wait_admin_answers(START_WITHIN).await?;

    let (mut admin, spec) = (cluster.admin(3).await?, cluster.node_spec(4));
    let replaced = tokio::spawn(async move { admin.replace(1, spec).await });
    until("node 4 is a member", START_WITHIN, async || {
        let status = cluster.admin(3).await?.status().await?;
        let is_new = status.nodes.iter().any(|node| node.node_id == 4);
        is_new.then_some(()).context("it is none yet")
    })
    .await?;
    cluster.node(4)?.kill()?;
    replaced.await??;
    until("all shards wait for node 4", START_WITHIN, async || {
        let status = cluster.admin(3).await?.status().await?;
        for shard in &status.shards {
            let moving = shard.wanted.contains(&4) && shard.health == "moving";
            ensure!(moving && !shard.voters.contains(&4), "{shard:?}");
        }
        Ok(())
    })
    .await?;

    let refused = cluster
        .admin(3)
        .await?
        .replace(2, cluster.node_spec(5))
        .await;
    let Err(refused) = refused else {
        bail!("a second node may leave while the first one's place is empty")
    };
    ensure!(format!("{refused:#}").contains("moving"), "{refused:#}");
    alice.send("bob", "m2", "while nothing goes on").await?;
    ensure!(
        cluster.node(1)?.ended()?.is_none(),
        "node 1 is gone too early"
    );

    cluster
        .admin(3)
        .await?
        .replace(4, cluster.node_spec(5))
        .await?;
    until("node 5 has the place", MOVED_WITHIN, async || {
        voters(&cluster, &[2, 3, 5]).await
    })
    .await?;
    let ended = cluster.node(1)?.wait_for_end(STOP_WITHIN).await?;
    ensure!(!ended.success(), "it says that it was replaced");
    alice.send("bob", "m3", "after").await?;
    let history = HistoryRequest {
        target: Some(parlance_proto::client::v1::history_request::Target::WithUser("bob".into())),
        ..HistoryRequest::default()
    };
    let events = alice.history(history).await?.events;
    ensure!(events.len() == 3, "{events:?}");
    let log = logs::read(cluster.node(3)?.log())?;
    for who in ["node 1 by node 4", "node 2 by node 5", "node 4 by node 5"] {
        ensure!(log.contains(who), "no audit line says {who:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_leave_while_another_is_down() -> Result<()> {
    let mut cluster = Cluster::start(ClusterSpec::default()).await?;
    cluster.add_node(4)?;
    cluster.node(4)?.start()?;
    cluster.wait_admin_answers(START_WITHIN).await?;
    cluster.node(2)?.kill()?;
    until("node 2 is missed", START_WITHIN, async || {
        let status = cluster.admin(3).await?.status().await?;
        let node = status.nodes.iter().find(|node| node.node_id == 2);
        ensure!(
            node.is_some_and(|node| !node.reachable),
            "it is there still"
        );
        Ok(())
    })
    .await?;
    let refused = cluster
        .admin(3)
        .await?
        .replace(1, cluster.node_spec(4))
        .await;
    let Err(refused) = refused else {
        bail!("two of three replicas are gone")
    };
    ensure!(format!("{refused:#}").contains("majority"), "{refused:#}");
    // The one that is down may.
    let spec = cluster.node_spec(4);
    until(
        "node 4 takes the place of node 2",
        START_WITHIN,
        async || cluster.admin(3).await?.replace(2, spec.clone()).await,
    )
    .await?;
    until("node 4 has the place", MOVED_WITHIN, async || {
        voters(&cluster, &[1, 3, 4]).await
    })
    .await
}
