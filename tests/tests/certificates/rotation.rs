//! From one authority to another in three steps, while others chat: both are trusted, the new one issues, the old one goes.

use anyhow::{Result, ensure};
use parlance_proto::tls::Role;
use parlance_testkit::certs::Authority;
use parlance_tests::admin::Admin;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;

use crate::{Peer, SOON, all_reload, all_reloads, files, peers, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_moves_to_another_authority_and_nobody_is_interrupted() -> Result<()> {
    tell(
        ClusterSpec::default(),
        Allowed::default(),
        async |cluster| {
            let new = Authority::create(&cluster.dir().join("new-tls"))?;
            let peers = peers(cluster);
            let ca = files(cluster, "operator").ca;
            let new_ca = std::fs::read(cluster.dir().join("new-tls/ca.crt"))?;
            let old_operator = cluster.operator.clone();

            let before = all_reloads(&peers).await?;
            put(&[new_ca.clone(), std::fs::read(&ca)?].concat(), &ca)?;
            all_reload(&peers, &before).await?;

            issue_all(cluster, &new, &peers).await?;
            // Who has a new certificate meets those that had old ones a moment ago.
            restart_node(cluster, 2).await?;

            let before = all_reloads(&peers).await?;
            put(&new_ca, &ca)?;
            all_reload(&peers, &before).await?;
            for node_id in 1..=3 {
                let address = cluster.address.link(node_id).to_string();
                let old = async {
                    Admin::connect(&address, &old_operator)
                        .await?
                        .status()
                        .await
                };
                ensure!(
                    old.await.is_err(),
                    "node {node_id} trusts the old authority"
                );
            }
            restart_node(cluster, 3).await?;
            cluster.wait_gateways_ready(SOON).await
        },
    )
    .await
}

/// Everybody gets a certificate of the new authority, the operator too.
async fn issue_all(cluster: &mut Cluster, new: &Authority, peers: &[Peer]) -> Result<()> {
    let before = all_reloads(peers).await?;
    for peer in peers {
        let (from, to) = (
            new.issue(&peer.name, peer.role.clone())?,
            files(cluster, &peer.name),
        );
        put(&std::fs::read(&from.cert)?, &to.cert)?;
        put(&std::fs::read(&from.key)?, &to.key)?;
    }
    cluster.operator = new.issue("operator", Role::Admin)?;
    all_reload(peers, &before).await
}

async fn restart_node(cluster: &mut Cluster, node_id: u64) -> Result<()> {
    cluster.node(node_id)?.stop(SOON).await?;
    cluster.node(node_id)?.start()?;
    cluster.wait_node_ready(node_id, SOON).await?;
    cluster.wait_healthy(SOON).await
}
