//! New certificates in the same files: no process is restarted, nobody who chats notices, and what cannot be used is not.

use anyhow::{Result, ensure};
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::{self, Allowed};
use parlance_tests::story::tell;
use parlance_tests::wait::until;

use crate::{SOON, all_reload, all_reloads, files, peers, put, reloads, serial, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_are_used_without_a_restart_and_bad_ones_never() -> Result<()> {
    let allowed = Allowed {
        texts: vec!["a changed certificate cannot be used".to_owned()],
        ..Allowed::default()
    };
    tell(ClusterSpec::default(), allowed, async |cluster| {
        bad_files_change_nothing(cluster).await?;
        renewed(cluster).await?;
        asked_by_signal(cluster).await
    })
    .await
}

/// Nonsense, and the certificate of somebody else.
async fn bad_files_change_nothing(cluster: &mut Cluster) -> Result<()> {
    let peers = peers(cluster);
    let mut before = Vec::new();
    for peer in &peers {
        before.push((peer.name.clone(), serial(cluster, &peer.name)?));
    }
    for peer in &peers {
        put(b"no certificate", &files(cluster, &peer.name).cert)?;
    }
    for peer in &peers {
        until("the nonsense is seen", SOON, async || {
            let failed = reloads(peer, "failed").await?;
            ensure!(failed >= 1.0, "{}: {failed}", peer.name);
            Ok(())
        })
        .await?;
    }
    for peer in &peers {
        let other = files(cluster, "operator");
        let own = files(cluster, &peer.name);
        put(&std::fs::read(&other.cert)?, &own.cert)?;
        put(&std::fs::read(&other.key)?, &own.key)?;
        until("the operator's certificate is seen", SOON, async || {
            let failed = reloads(peer, "failed").await?;
            ensure!(failed >= 2.0, "{}: {failed}", peer.name);
            Ok(())
        })
        .await?;
        ensure!(reloads(peer, "ok").await? == 0.0, "{} took it", peer.name);
    }
    // Whoever had taken a bad file would keep saying so.
    until("all use what they had", SOON, async || {
        let now = told(cluster, 1).await?;
        ensure!(now == before, "{now:?} is not {before:?}");
        Ok(())
    })
    .await?;
    cluster.wait_healthy(SOON).await?;
    cluster.wait_gateways_ready(SOON).await
}

async fn renewed(cluster: &mut Cluster) -> Result<()> {
    let peers = peers(cluster);
    let before = all_reloads(&peers).await?;
    for peer in &peers {
        // Not in one step: the key comes a moment after the certificate.
        cluster.authority.issue(&peer.name, peer.role.clone())?;
    }
    all_reload(&peers, &before).await?;
    // A node that starts again meets everybody anew.
    cluster.node(3)?.stop(SOON).await?;
    cluster.node(3)?.start()?;
    cluster.wait_node_ready(3, SOON).await?;
    until(
        "all are known by their new certificates",
        SOON,
        async || {
            let told = told(cluster, 3).await?;
            ensure!(told.len() == peers.len(), "{told:?}");
            for (name, said) in told {
                let new = serial(cluster, &name)?;
                ensure!(said == new, "{name}: {said} is not {new}");
            }
            Ok(())
        },
    )
    .await?;
    cluster.wait_healthy(SOON).await
}

async fn asked_by_signal(cluster: &mut Cluster) -> Result<()> {
    for process in cluster.processes() {
        process.hang_up()?;
        until("the signal is heard", SOON, async || {
            let log = logs::read(process.log())?;
            ensure!(log.contains("SIGHUP"), "{} says nothing", process.name);
            Ok(())
        })
        .await?;
    }
    cluster.check_all_run()
}
