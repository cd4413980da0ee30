//! The cluster's state as a stream: from every linked node, and from the seeds while no link is up. Several
//! sources, because one of them may be frozen without its connection breaking.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::link::v1::WatchClusterRequest;
use parlance_proto::link::v1::link_client::LinkClient;
use parlance_proto::tls::ANY_NODE;
use tokio::time::timeout;
use tonic::transport::Channel;

use super::Router;
use super::backoff::Backoff;
use super::client::LinkError;
use super::dial::CONNECT_TIMEOUT;

const PAUSE_LEAST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// Merges what one linked node says, and asks again while the link stands.
pub async fn follow(mut client: LinkClient<Channel>, router: Arc<Router>) {
    let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
    loop {
        if let Err(status) = stream(&mut client, &router).await {
            tracing::debug!(%status, "cluster watch ended");
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Asks the seeds in turn whenever no link is up.
pub async fn seeds(addresses: Vec<String>, router: Arc<Router>) {
    let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
    let mut topology = router.topology();
    loop {
        for address in &addresses {
            // The links watch too: seeds are only for when there are none.
            if topology
                .wait_for(|topology| topology.link_sessions.is_empty())
                .await
                .is_err()
            {
                return;
            }
            if let Err(error) = ask(address, &router).await {
                tracing::debug!(%address, %error, "seed does not answer");
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

async fn ask(address: &str, router: &Router) -> Result<(), LinkError> {
    let connect = router.dialler().connect(address, ANY_NODE.to_owned());
    let mut client = timeout(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| LinkError::Timeout)??;
    let mut topology = router.topology();
    tokio::select! {
        result = stream(&mut client, router) => Ok(result?),
        _ = topology.wait_for(|topology| !topology.link_sessions.is_empty()) => Ok(()),
    }
}

async fn stream(client: &mut LinkClient<Channel>, router: &Router) -> Result<(), tonic::Status> {
    let request = WatchClusterRequest {
        gateway_id: router.gateway_id().to_owned(),
    };
    let mut updates = client.watch_cluster(request).await?.into_inner();
    while let Some(update) = updates.message().await? {
        router.merge(update);
    }
    Ok(())
}
