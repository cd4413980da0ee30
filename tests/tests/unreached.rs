//! A leader that gateways do not reach while the other nodes hear it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::client::Connection;
use parlance_tests::cluster::links::{Direction, Held};
use parlance_tests::cluster::{ClusterSpec, START_WITHIN};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;
use parlance_tests::wait::until;

const SOON: Duration = Duration::from_secs(40);
/// In so many conversations, of all shards.
const PEERS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_no_gateway_reaches_lets_others_lead() -> Result<()> {
    let spec = ClusterSpec {
        link_relays: true,
        ..ClusterSpec::default()
    };
    tell(spec, Allowed::default(), async |cluster| {
        let unreached = cluster.busiest_leader().await?;
        let cut = [Direction::ToNode, Direction::ToGateway].map(|way| (unreached, None, way));
        for (node, gateway, direction) in cut {
            cluster.links.hold(node, gateway, direction, Held::Cut);
        }
        until("others lead", SOON, async || {
            let other = cluster.nodes.keys().find(|id| **id != unreached);
            let other = *other.context("no other node")?;
            let status = cluster.admin(other).await?.status().await?;
            let mut shards = status.shards.iter();
            let led = shards.find(|shard| [0, unreached].contains(&shard.leader));
            ensure!(led.is_none(), "{led:?}");
            Ok(())
        })
        .await?;
        let gateways = cluster.gateway_addresses();
        let mut alice = Connection::logged_in(&gateways[0], &cluster.signer.token("alice")).await?;
        for number in 0..PEERS {
            let (peer, id) = (format!("peer-{number}"), format!("id-{number}"));
            let sent = alice.send(&peer, &id, "you are reached").await;
            sent.with_context(|| format!("to {peer}"))?;
        }
        ensure!(cluster.links.struck(&cut) > 0, "nothing was cut");
        cluster.links.heal();
        cluster.wait_healthy(START_WITHIN).await
    })
    .await
}
