//! A gateway that is told to stop: first it is not ready any more and serves on, so that whoever sends clients to it has time to
//! notice; then it tells its clients to go elsewhere. Another signal ends the waiting.

use anyhow::{Context, Result, bail, ensure};
use parlance_proto::client::v1::server_frame::Body;
use parlance_tests::client::Connection;
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, ClusterSpec, START_WITHIN, STOP_WITHIN};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;
use parlance_tests::wait::until;
use tokio::net::TcpStream;

use crate::SOON;

/// Of the first gateway, far longer than the test: only a signal can end it; of the second, short.
const LAME_DUCKS_MS: [(&str, &str); 2] = [("gateway-1", "600000"), ("gateway-2", "200")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_serves_all_until_nobody_is_sent_to_it() -> Result<()> {
    let variable = "PARLANCE_GATEWAY__LIMITS__LAME_DUCK_MS";
    let of = |(gateway, ms): (&str, &str)| {
        let value = (variable.to_owned(), ms.to_owned());
        (gateway.to_owned(), value)
    };
    let spec = ClusterSpec {
        shards: 2,
        environment_of: LAME_DUCKS_MS.map(of).into(),
        ..ClusterSpec::default()
    };
    tell(spec, Allowed::default(), async |cluster| {
        serves_on_until_another_signal(cluster).await?;
        cluster.gateways[0].start()?;
        cluster.wait_gateways_ready(START_WITHIN).await?;
        cluster.gateways[1].stop(STOP_WITHIN).await?;
        cluster.gateways[1].start()?;
        cluster.wait_gateways_ready(START_WITHIN).await
    })
    .await
}

async fn serves_on_until_another_signal(cluster: &mut Cluster) -> Result<()> {
    let (gateway, ops) = (cluster.address.gateway(1), cluster.address.gateway_ops(1));
    let log_in = async |user| {
        let token = cluster.signer.token(user);
        Connection::logged_in(&gateway.to_string(), &token).await
    };
    let mut early = log_in("early").await?;
    cluster.gateways[0].begin_to_stop()?;
    until("it is not ready any more", SOON, async || {
        let (status, body) = http_get(ops, "/readyz").await?;
        ensure!(
            status == 503 && body.contains("stopping"),
            "{status} {body}"
        );
        Ok(())
    })
    .await?;

    let mut late = log_in("late").await.context("a client that comes now")?;
    late.send("early", "hello", "hello").await?;
    loop {
        match early.next_within(SOON).await?.body {
            Some(Body::Event(_)) => break,
            // A young cluster has changes of leaders.
            Some(Body::Resync(_)) => {}
            other => bail!("sent away too early, or not served: {other:?}"),
        }
    }

    cluster.gateways[0].begin_to_stop()?;
    for mut client in [early, late] {
        while !matches!(
            client.next_within(SOON).await?.body,
            Some(Body::Reconnect(_))
        ) {}
        client.close().await;
    }
    let end = cluster.gateways[0].wait_for_end(STOP_WITHIN).await?;
    ensure!(end.success(), "it ended with {end}");
    ensure!(
        TcpStream::connect(gateway).await.is_err(),
        "somebody listens"
    );
    Ok(())
}
