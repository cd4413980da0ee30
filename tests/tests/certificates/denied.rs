//! Certificates that are good and denied: nobody who has one gets in, and who was in is cut off.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_proto::tls::{Role, TlsIdentity};
use parlance_tests::admin::Admin;
use parlance_tests::cli::{DONE, NOT_POSSIBLE, Shell};
use parlance_tests::client::Connection;
use parlance_tests::cluster::health::{http_get, metric};
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::wait::until;
use tokio::time::Instant;

use crate::{SOON, peers, serial};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_denied_certificate_is_cut_off_until_it_has_another() -> Result<()> {
    let mut cluster = Cluster::start(ClusterSpec::default()).await?;
    let told = story(&mut cluster).await;
    told.map_err(|error| error.context(cluster.tails()))
}

async fn story(cluster: &mut Cluster) -> Result<()> {
    let shell = Shell::new(cluster)?;
    a_stolen_operators_certificate(cluster, &shell).await?;
    a_gateways(cluster, &shell).await?;
    a_nodes(cluster, &shell).await?;
    let listed = shell.data(&["certificate", "list"]).await?;
    let denied = listed["denied"].as_array().map_or(0, Vec::len);
    ensure!(denied == 3, "{listed}");
    let first = listed["denied"][0]["serial"].as_str().unwrap_or_default();
    let allowed = shell.run(&["certificate", "allow", first]).await?;
    ensure!(allowed.code == DONE, "{allowed:?}");
    let again = shell.run(&["certificate", "allow", first]).await?;
    ensure!(again.code == NOT_POSSIBLE, "{again:?}");
    cluster.check_all_run()
}

async fn a_stolen_operators_certificate(cluster: &Cluster, shell: &Shell) -> Result<()> {
    let stolen = cluster.authority.issue("stolen", Role::Admin)?;
    let mut open = Vec::new();
    for node_id in 1..=3 {
        let address = cluster.address.link(node_id).to_string();
        let mut thief = Admin::connect(&address, &stolen).await?;
        thief.status().await?;
        open.push((address, thief));
    }
    let path = stolen.cert.display().to_string();
    let deny = ["certificate", "deny", &path, "--reason", "stolen"];
    let (said, began) = (shell.run(&deny).await?, Instant::now());
    ensure!(said.code == DONE, "{said:?}");
    for (address, mut thief) in open {
        until("the open connection is cut", SOON, async || {
            ensure!(thief.status().await.is_err(), "it is served");
            Ok(())
        })
        .await?;
        let again = async { Admin::connect(&address, &stolen).await?.status().await };
        ensure!(again.await.is_err(), "{address} lets it in again");
    }
    note("an operator's connections are cut", began);
    // Nobody shuts the door behind which he stands.
    let own = TlsIdentity::load(&cluster.operator)?.certificate.serial;
    let own_cert = cluster.dir().join("operator-tls/admin.pem");
    let own_cert = own_cert.display().to_string();
    let said = shell.run(&["certificate", "deny", &own_cert]).await?;
    ensure!(
        said.code == NOT_POSSIBLE && own.to_string() != own_cert,
        "{said:?}"
    );
    Ok(())
}

async fn a_gateways(cluster: &mut Cluster, shell: &Shell) -> Result<()> {
    let old = serial(cluster, "gateway-1")?;
    // Nodes look once a second at which links they have.
    until("node 1 knows who uses it", SOON, async || {
        let told = crate::told(cluster, 1).await?;
        let used = ("gateway-1".to_owned(), old.clone());
        ensure!(told.contains(&used), "{told:?}");
        Ok(())
    })
    .await?;
    let careless = shell.run(&["certificate", "deny", &old]).await?;
    ensure!(
        careless.code == NOT_POSSIBLE && careless.stderr.contains("gateway gateway-1"),
        "{careless:?}"
    );
    let deny = ["certificate", "deny", &old, "--although-used"];
    let (said, began) = (shell.run(&deny).await?, Instant::now());
    ensure!(said.code == DONE, "{said:?}");
    let ops = cluster.address.gateway_ops(1);
    until("the gateway is cut off", SOON, async || {
        let up = metric(ops, "parlance_gateway_link_up{", "").await?;
        ensure!(up == 0.0, "{up} links are up");
        Ok(())
    })
    .await?;
    note("a gateway's links are cut", began);
    until("it says why", SOON, async || {
        let (status, body) = http_get(ops, "/readyz").await?;
        ensure!(
            status == 503 && body.contains("Revoked"),
            "{status}: {body}"
        );
        Ok(())
    })
    .await?;
    sends(cluster, 2, "without gateway 1").await?;
    cluster
        .authority
        .issue("gateway-1", Role::Gateway("gateway-1".into()))?;
    cluster.wait_gateways_ready(SOON).await?;
    sends(cluster, 1, "with its new certificate").await
}

async fn a_nodes(cluster: &mut Cluster, shell: &Shell) -> Result<()> {
    let old = serial(cluster, "node-3")?;
    let deny = ["certificate", "deny", &old, "--although-used"];
    let (said, began) = (shell.run(&deny).await?, Instant::now());
    ensure!(said.code == DONE, "{said:?}");
    for number in 1..=2 {
        let ops = cluster.address.gateway_ops(number);
        until("the gateways cut the node off", SOON, async || {
            let up = metric(ops, "parlance_gateway_link_up{", "node=\"3\"").await?;
            ensure!(up == 0.0, "gateway {number} has a link");
            Ok(())
        })
        .await?;
    }
    note("links to a node are cut", began);
    for node_id in [1, 2] {
        let count = cluster.node_metric(node_id, "parlance_certificate_denied_total", "");
        ensure!(count.await? > 0.0, "node {node_id} has not counted it");
        until("the other nodes do without it", SOON, async || {
            let status = cluster.admin(node_id).await?.status().await?;
            let node = status.nodes.iter().find(|node| node.node_id == 3);
            ensure!(node.is_some_and(|node| !node.reachable), "{node:?}");
            let led = |leader: u64| leader == 1 || leader == 2;
            let leaders = status.shards.iter().map(|shard| shard.leader);
            ensure!(
                leaders.clone().all(led),
                "{:?}",
                leaders.collect::<Vec<_>>()
            );
            Ok(())
        })
        .await?;
    }
    sends(cluster, 1, "without node 3").await?;
    cluster.authority.issue("node-3", Role::Node(3))?;
    cluster.wait_healthy(SOON).await?;
    let certificates = peers(cluster).len();
    until("it is back on all links", SOON, async || {
        let told = crate::told(cluster, 3).await?;
        ensure!(told.len() == certificates, "{told:?}");
        Ok(())
    })
    .await
}

/// Users of one gateway are served.
async fn sends(cluster: &Cluster, gateway: usize, text: &str) -> Result<()> {
    let address = cluster.address.gateway(gateway).to_string();
    let token = cluster.signer.token("alice");
    for number in 0..20 {
        let id = format!("{text} {number}");
        let (address, token) = (&address, &token);
        until("a message is stored", SOON, async || {
            let mut alice = Connection::logged_in(address, token).await?;
            let to = format!("bob-{number}");
            Ok(alice.send(&to, &id, text).await?)
        })
        .await?;
    }
    Ok(())
}

fn note(what: &str, began: Instant) {
    let took: Duration = began.elapsed();
    eprintln!("{what} after {took:?}");
}
