//! Users who are thrown out, and an app that is disabled.

use anyhow::{Result, ensure};
use parlance_tests::cli::{NOT_POSSIBLE, Shell};
use parlance_tests::cluster::{Cluster, START_WITHIN, STOP_WITHIN};
use parlance_tests::token::Signer;
use tokio::time::Instant;

use crate::{
    APP_DISABLED, KICKED, SHOP, all_end, all_live, is_refused, on_all_gateways, token_for,
};

pub(crate) async fn kicked(
    cluster: &Cluster,
    shell: &Shell,
    shop: &Signer,
    bazaar: &Signer,
) -> Result<()> {
    let old = token_for(shop, "alice", -2, 600);
    let mut alice = on_all_gateways(cluster, &old).await?;
    let mut bob = on_all_gateways(cluster, &shop.token("bob")).await?;
    let mut namesake = on_all_gateways(cluster, &bazaar.token("alice")).await?;

    let began = Instant::now();
    shell
        .data(&["user", "kick", SHOP, "alice", "--reason", "spam"])
        .await?;
    let told = all_end(&mut alice, "kicked", KICKED).await?;
    eprintln!(
        "a kick took {:?}, command and all gateways",
        began.elapsed()
    );
    ensure!(told.iter().all(|text| text.contains("spam")), "{told:?}");
    is_refused(cluster, &old, "kicked", KICKED).await?;
    let ahead = token_for(shop, "alice", 3, 600);
    let mut alice = on_all_gateways(cluster, &ahead).await?;

    // Who is there is thrown out, though the app's clock is ahead of the kick's.
    shell.data(&["user", "kick", SHOP, "alice"]).await?;
    all_end(&mut alice, "kicked", KICKED).await?;
    let mut alice = on_all_gateways(cluster, &token_for(shop, "alice", 4, 600)).await?;

    shell
        .data(&["user", "kick", SHOP, "alice", "--for", "1h"])
        .await?;
    all_end(&mut alice, "kicked", KICKED).await?;
    let again = shell.data(&["user", "kick", SHOP, "alice"]).await?;
    ensure!(
        again["until_ms"].as_i64() > Some(0),
        "the hour is over: {again}"
    );
    is_refused(cluster, &token_for(shop, "alice", 4, 600), "kicked", KICKED).await?;
    shell
        .data(&["user", "kick", SHOP, "alice", "--for", "0s"])
        .await?;
    let mut alice = on_all_gateways(cluster, &token_for(shop, "alice", 4, 600)).await?;

    for sessions in [&mut alice, &mut bob, &mut namesake] {
        all_live(sessions).await?;
    }
    let nowhere = shell.run(&["user", "kick", "nowhere", "alice"]).await?;
    ensure!(nowhere.code == NOT_POSSIBLE, "{nowhere:?}");
    Ok(())
}

pub(crate) async fn disabled(
    cluster: &Cluster,
    shell: &Shell,
    shop: &Signer,
    bazaar: &Signer,
) -> Result<()> {
    let token = shop.token("bob");
    let mut bob = on_all_gateways(cluster, &token).await?;
    let mut namesake = on_all_gateways(cluster, &bazaar.token("bob")).await?;
    let unasked = shell.run(&["app", "disable", SHOP]).await?;
    ensure!(unasked.code == NOT_POSSIBLE, "without --yes: {unasked:?}");
    all_live(&mut bob).await?;

    let began = Instant::now();
    shell.data(&["app", "disable", SHOP, "--yes"]).await?;
    all_end(&mut bob, "app_disabled", APP_DISABLED).await?;
    eprintln!(
        "disabling took {:?}, command and all gateways",
        began.elapsed()
    );
    is_refused(cluster, &token, "app_disabled", APP_DISABLED).await?;
    // Whoever cannot sign learns nothing.
    let stranger = Signer::new(SHOP, "a guess").token("bob");
    is_refused(cluster, &stranger, "token_invalid", crate::TOKEN_REFUSED).await?;
    all_live(&mut namesake).await?;
    shell.data(&["app", "enable", SHOP]).await?;
    on_all_gateways(cluster, &token).await?;
    Ok(())
}

/// The leader of the meta shard dies, and a gateway comes back knowing nothing.
pub(crate) async fn kicks_outlive_processes(
    cluster: &mut Cluster,
    shell: &Shell,
    bazaar: &Signer,
) -> Result<()> {
    let old = token_for(bazaar, "mallory", -2, 600);
    let mut mallory = on_all_gateways(cluster, &old).await?;
    shell.data(&["user", "kick", "bazaar", "mallory"]).await?;
    all_end(&mut mallory, "kicked", KICKED).await?;

    let leader = cluster.any_admin().await?.status().await?;
    let leader = leader.meta.unwrap_or_default().leader;
    cluster.node(leader)?.kill()?;
    cluster.gateways[0].stop(STOP_WITHIN).await?;
    cluster.gateways[0].start()?;
    cluster.wait_gateways_ready(START_WITHIN).await?;
    is_refused(cluster, &old, "kicked", KICKED).await?;
    cluster.node(leader)?.start()?;
    cluster.wait_healthy(START_WITHIN).await?;
    is_refused(cluster, &old, "kicked", KICKED).await
}
