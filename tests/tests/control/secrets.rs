//! A secret is replaced by another, while its users are there.

use anyhow::{Context, Result, ensure};
use parlance_proto::client::v1::RenewRequest;
use parlance_tests::cli::{NOT_POSSIBLE, Shell};
use parlance_tests::cluster::Cluster;
use parlance_tests::token::Signer;
use tokio::time::Instant;

use crate::{SHOP, TOKEN_REFUSED, all_end, all_live, is_refused, on_all_gateways};

pub(crate) async fn rotated(cluster: &Cluster, shell: &Shell, shop: &Signer) -> Result<()> {
    let first = shell.data(&["app", "secret", "list", SHOP]).await?;
    ensure!(
        first["secrets"][0]["secret"].is_null(),
        "shown unasked: {first}"
    );
    let first = first["secrets"][0]["secret_id"]
        .as_str()
        .context("no id")?
        .to_owned();
    let only = shell
        .run(&["app", "secret", "retire", SHOP, &first, "--yes"])
        .await?;
    ensure!(
        only.code == NOT_POSSIBLE && only.stderr.contains("only secret"),
        "{only:?}"
    );

    let added = shell.data(&["app", "secret", "add", SHOP]).await?;
    let text = added["secrets"][0]["secret"]
        .as_str()
        .context("no secret")?;
    let next = Signer::new(SHOP, text);
    let third = shell.run(&["app", "secret", "add", SHOP]).await?;
    ensure!(
        third.code == NOT_POSSIBLE && third.stderr.contains("retire one first"),
        "{third:?}"
    );
    let revealed = shell
        .data(&["app", "secret", "list", SHOP, "--reveal"])
        .await?;
    ensure!(revealed["secrets"][1]["secret"] == text, "{revealed}");

    // Not alice: she was kicked within this second, and a token of the same second is refused.
    let mut old = on_all_gateways(cluster, &shop.token("dave")).await?;
    let mut new = on_all_gateways(cluster, &next.token("bob")).await?;
    let mut renewed = on_all_gateways(cluster, &shop.token("carol")).await?;
    for session in &mut renewed {
        let token = next.token("carol");
        let renew = RenewRequest {
            token,
            ..RenewRequest::default()
        };
        session.request(renew).await?;
    }
    let began = Instant::now();
    shell
        .data(&["app", "secret", "retire", SHOP, &first, "--yes"])
        .await?;
    all_end(&mut old, "token_invalid", TOKEN_REFUSED).await?;
    eprintln!(
        "retiring took {:?}, command and all gateways",
        began.elapsed()
    );
    is_refused(cluster, &shop.token("dave"), "token_invalid", TOKEN_REFUSED).await?;
    all_live(&mut new).await?;
    all_live(&mut renewed).await?;

    // The operator's own commands sign with the secret that is left.
    let sent = [
        "send", "--app", SHOP, "--as", "dave", "--to", "bob", "hello",
    ];
    shell.data(&sent).await?;
    Ok(())
}
