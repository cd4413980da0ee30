//! Sessions and the ends of their tokens.

use anyhow::{Context, Result, bail, ensure};
use parlance_proto::client::v1::RenewRequest;
use parlance_proto::client::v1::server_frame::Body;
use parlance_tests::cli::{NOT_POSSIBLE, Shell};
use parlance_tests::client::{CallError, Connection};
use parlance_tests::cluster::Cluster;
use parlance_tests::token::Signer;

use crate::{
    SHOP, SOON, TOKEN_EXPIRED, TOKEN_REFUSED, all_end, all_live, is_refused, on_all_gateways,
    token_for,
};

/// Until the gateway says that the token ends.
async fn is_warned(session: &mut Connection) -> Result<()> {
    loop {
        match session.next_within(SOON).await?.body {
            Some(Body::TokenExpiring(notice)) => {
                ensure!(notice.within_ms <= 2000, "{notice:?}");
                return Ok(());
            }
            Some(Body::Error(error)) => bail!("{error} before a warning"),
            _ => {}
        }
    }
}

async fn renew(session: &mut Connection, token: String) -> Result<i64, CallError> {
    let request = RenewRequest {
        token,
        ..RenewRequest::default()
    };
    Ok(session.request(request).await?.token_expires_ms)
}

pub(crate) async fn end(cluster: &Cluster, shop: &Signer) -> Result<()> {
    // Long enough to log in everywhere, however busy the machine is.
    let short = |user| token_for(shop, user, -1, 10);
    let mut left = on_all_gateways(cluster, &short("alice")).await?;
    let mut renewed = on_all_gateways(cluster, &short("bob")).await?;
    for session in left.iter_mut().chain(&mut renewed) {
        is_warned(session).await?;
    }
    for session in &mut renewed {
        let refused = renew(session, shop.token("alice")).await;
        let code = refused.as_ref().err().and_then(CallError::code);
        ensure!(code.as_deref() == Some("token_invalid"), "{refused:?}");
        let ends = renew(session, token_for(shop, "bob", 0, 600)).await?;
        ensure!(ends > 0, "{ends}");
    }
    all_end(&mut left, "token_expired", TOKEN_EXPIRED).await?;
    // They stand on the new token: their old one ended with the others'.
    all_live(&mut renewed).await?;
    renewed[0]
        .send("alice", "after", "still here")
        .await
        .context("a renewed session sends")?;
    is_refused(
        cluster,
        &token_for(shop, "bob", -60, -30),
        "token_expired",
        TOKEN_REFUSED,
    )
    .await
}

pub(crate) async fn live_no_longer_than_their_app_allows(
    cluster: &Cluster,
    shell: &Shell,
    shop: &Signer,
) -> Result<()> {
    let ten_minutes = token_for(shop, "carol", 0, 600);
    let mut carol = on_all_gateways(cluster, &ten_minutes).await?;
    let set = |life| ["app", "set", SHOP, "--token-life-max", life];
    let nonsense = shell.run(&set("1s")).await?;
    ensure!(nonsense.code == NOT_POSSIBLE, "{nonsense:?}");
    shell.data(&set("1m")).await?;
    let minute = token_for(shop, "carol", 0, 60);
    on_all_gateways(cluster, &minute).await?;
    parlance_tests::wait::until("the longer life is refused", SOON, async || {
        is_refused(cluster, &ten_minutes, "token_invalid", TOKEN_REFUSED).await
    })
    .await?;
    all_live(&mut carol).await
}
