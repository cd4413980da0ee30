//! Who is logged in where.

use anyhow::{Context, Result, ensure};
use parlance_client::LoginOptions;
use parlance_tests::cli::Shell;
use parlance_tests::client::Connection;
use parlance_tests::cluster::Cluster;
use parlance_tests::token::Signer;
use parlance_tests::wait::until;
use serde_json::Value;

use crate::{SOON, on_all_gateways};

pub(crate) async fn listed(cluster: &Cluster, shell: &Shell, bazaar: &Signer) -> Result<()> {
    let gateways = cluster.gateway_addresses();
    let phone = LoginOptions {
        platform: "ios".into(),
        device_id: "phone-7".into(),
        client_version: "3.2".into(),
        ..LoginOptions::default()
    };
    let mut dora = Connection::open(&gateways[0]).await?;
    dora.request(phone.request(&bazaar.token("dora"))).await?;
    let _others = on_all_gateways(cluster, &bazaar.token("emil")).await?;

    let of = |list: &Value| list["sessions"].as_array().cloned().unwrap_or_default();
    let dora_listed = shell
        .data(&["session", "list", "--app", "bazaar", "--user", "dora"])
        .await?;
    let rows = of(&dora_listed);
    ensure!(rows.len() == 1, "{dora_listed}");
    let row = &rows[0];
    ensure!(
        row["gateway_id"] == "gateway-1"
            && row["platform"] == "ios"
            && row["device_id"] == "phone-7"
            && row["client_version"] == "3.2",
        "{row}"
    );
    let since = row["since_ms"].as_i64().context("no time")?;
    ensure!(row["token_expires_ms"].as_i64() > Some(since), "{row}");

    let emils = shell
        .data(&["session", "list", "--app", "bazaar", "--user", "emil"])
        .await?;
    ensure!(of(&emils).len() == gateways.len(), "{emils}");
    let second = [
        "session",
        "list",
        "--app",
        "bazaar",
        "--gateway",
        "gateway-2",
    ];
    let second = shell.data(&second).await?;
    let all_there = of(&second)
        .iter()
        .all(|row| row["gateway_id"] == "gateway-2");
    ensure!(all_there && !of(&second).is_empty(), "{second}");

    // One after the other, all pages have what one has.
    let all = shell.data(&["session", "list"]).await?;
    let few = shell.data(&["session", "list", "--limit", "2"]).await?;
    ensure!(of(&few).len() == 2 && few["more"] == true, "{few}");
    ensure!(of(&all).len() > 4 && all["more"] == false, "{all}");

    // A gateway that does not answer is named, and keeps nobody from the others.
    cluster.gateways[1].freeze()?;
    let frozen = shell
        .data(&["session", "list", "--app", "bazaar", "--user", "emil"])
        .await;
    cluster.gateways[1].thaw()?;
    let frozen = frozen?;
    ensure!(
        of(&frozen).len() == 1 && frozen["unanswered_gateways"][0] == "gateway-2",
        "{frozen}"
    );
    dora.close().await;
    until("dora is gone from the list", SOON, async || {
        let list = shell.data(&["session", "list", "--user", "dora"]).await?;
        ensure!(of(&list).is_empty(), "{list}");
        Ok(())
    })
    .await
}
