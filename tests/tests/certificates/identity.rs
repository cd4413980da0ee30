//! A certificate is for one gateway, and a gateway's id for one process.

use anyhow::{Result, ensure};
use futures::stream;
use parlance_proto::common::v1::ErrorCode;
use parlance_proto::error::from_status;
use parlance_proto::link::v1::link_client::LinkClient;
use parlance_proto::link::v1::{GatewayFrame, Hello, WatchClusterRequest};
use parlance_proto::version::{LINK_PROTOCOLS, greeting};
use parlance_tests::admin::channel;
use parlance_tests::cli::{Cli, DONE};
use parlance_tests::cluster::health::{http_get, metric};
use parlance_tests::cluster::process::Process;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::{self, Allowed};
use parlance_tests::story::tell;
use parlance_tests::wait::until;

use crate::{SOON, files};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_speaks_for_itself_alone() -> Result<()> {
    tell(
        ClusterSpec::default(),
        Allowed::default(),
        async |cluster| {
            the_certificate_of_another_is_refused_at_the_start(cluster).await?;
            and_by_nodes(cluster).await
        },
    )
    .await
}

async fn the_certificate_of_another_is_refused_at_the_start(cluster: &Cluster) -> Result<()> {
    let settings = std::fs::read_to_string(cluster.dir().join("gateway-1.toml"))?;
    let mut settings: toml::Table = toml::from_str(&settings)?;
    settings.insert("gateway_id".into(), "gateway-2".into());
    settings.remove("ops_listen"); // the other gateway has it
    let file = cluster.dir().join("impostor.toml");
    std::fs::write(&file, toml::to_string(&settings)?)?;
    let cli = Cli::new(cluster.dir())?;
    let path = file.display().to_string();
    let said = cli.run(&["gateway", "--config", &path]).await?;
    let text = format!("{}{}", said.stdout, said.stderr);
    ensure!(
        said.code != DONE && text.contains("one of gateway gateway-1, not of gateway gateway-2"),
        "{said:?}"
    );
    Ok(())
}

async fn and_by_nodes(cluster: &Cluster) -> Result<()> {
    let address = cluster.address.link(1).to_string();
    let identity = files(cluster, "gateway-1");
    let channel = channel(&address, &cluster.operator.ca, Some(&identity)).await?;
    let mut link = LinkClient::new(channel);
    let hello = Hello {
        protocol: greeting(LINK_PROTOCOLS),
        gateway_id: "gateway-2".into(),
        link_id: "stolen".into(),
        instance_id: "stolen".into(),
        ..Hello::default()
    };
    let frame = GatewayFrame {
        hello: Some(hello),
        ..GatewayFrame::default()
    };
    let opened = link.open(stream::iter([frame])).await.map(drop);
    let gateway_id = "gateway-2".to_owned();
    let watched = link.watch_cluster(WatchClusterRequest { gateway_id }).await;
    for answer in [opened, watched.map(drop)] {
        let refused = answer.as_ref().err().map(from_status).unwrap_or_default();
        ensure!(
            refused.code() == ErrorCode::PermissionDenied && refused.message.contains("gateway-2"),
            "{answer:?}"
        );
    }
    let label = "reason=\"other_gateway\"";
    let counted = cluster.node_metric(1, "parlance_node_links_refused_total{", label);
    ensure!(counted.await? == 2.0, "refusals are counted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_gateways_with_one_id_the_second_waits_and_the_first_does_not_notice() -> Result<()>
{
    let spec = ClusterSpec {
        gateways: 1,
        ..ClusterSpec::default()
    };
    let mut cluster = Cluster::start(spec).await?;
    let told = story(&mut cluster).await;
    told.map_err(|error| error.context(cluster.tails()))
}

async fn story(cluster: &mut Cluster) -> Result<()> {
    let first = cluster.address.gateway_ops(1);
    let opened = links_opened(cluster)?;
    let mut twin = twin(cluster)?;
    let second = cluster.address.gateway_ops(2);
    twin.start()?;
    waits(second).await?;
    // It has asked again and again by then, and is told why; nobody else is told anything.
    for node_id in 1..=3 {
        until("the refusals are counted", SOON, async || {
            let label = "reason=\"in_use\"";
            let refused = cluster.node_metric(node_id, "parlance_node_links_refused_total{", label);
            let refused = refused.await?;
            ensure!(refused >= 3.0, "node {node_id}: {refused}");
            Ok(())
        })
        .await?;
        let log = logs::read(cluster.node(node_id)?.log())?;
        ensure!(
            log.contains("is in use by another process"),
            "node {node_id}"
        );
    }
    let log = logs::read(twin.log())?;
    ensure!(log.contains("is in use by another process"), "{log}");
    ensure!(
        links_opened(cluster)? == opened,
        "the first one's links broke"
    );
    let up = metric(first, "parlance_gateway_link_up{", "").await?;
    ensure!(up == 3.0, "{up} links of the first are up");

    // Its end frees the id.
    cluster.gateways[0].kill()?;
    until("the second has the id", SOON, async || ready(second).await).await?;
    cluster.gateways[0].start()?;
    waits(first).await?;
    ready(second).await
}

/// A process with the id, the certificate and the nodes of gateway 1, and other addresses.
fn twin(cluster: &Cluster) -> Result<Process> {
    let mut settings = std::fs::read_to_string(cluster.dir().join("gateway-1.toml"))?;
    let address = &cluster.address;
    for (one, two) in [
        (address.gateway(1), address.gateway(2)),
        (address.gateway_ops(1), address.gateway_ops(2)),
    ] {
        settings = settings.replace(&one.to_string(), &two.to_string());
    }
    let (file, log) = (
        cluster.dir().join("twin.toml"),
        cluster.dir().join("twin.log"),
    );
    std::fs::write(&file, settings)?;
    let arguments = ["gateway", "--config", &file.display().to_string()].map(str::to_owned);
    Ok(Process::new(
        "twin",
        cluster.program(),
        arguments.into(),
        log,
    ))
}

async fn ready(ops: std::net::SocketAddr) -> Result<()> {
    let (status, body) = http_get(ops, "/readyz").await?;
    ensure!(status == 200, "{status}: {body}");
    Ok(())
}

async fn waits(ops: std::net::SocketAddr) -> Result<()> {
    until("it says that its id is in use", SOON, async || {
        let (status, body) = http_get(ops, "/readyz").await?;
        ensure!(
            status == 503 && body.contains("is in use"),
            "{status}: {body}"
        );
        Ok(())
    })
    .await
}

/// How often the nodes say that a link was opened.
fn links_opened(cluster: &Cluster) -> Result<usize> {
    let mut opened = 0;
    for node in cluster.nodes.values() {
        opened += logs::read(node.log())?.matches("link opened").count();
    }
    Ok(opened)
}
