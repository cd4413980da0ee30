//! The cluster's state as a stream: from every linked node, and from the seeds while no link is up. Several
//! sources, because one of them may be frozen without its connection breaking.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::link::v1::link_client::LinkClient;
use parlance_proto::link::v1::{App, ClusterUpdate, Kick, WatchClusterRequest};
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
    let mut pages = Pages::default();
    while let Some(page) = updates.message().await? {
        if let Some(update) = pages.join(page) {
            router.merge(update);
        }
    }
    Ok(())
}

/// The messages of an update that is not all there yet: nothing of it counts.
#[derive(Default)]
struct Pages {
    apps: Vec<App>,
    kicks: Vec<Kick>,
}

impl Pages {
    /// Takes the next message; answers the update with its last one.
    fn join(&mut self, mut page: ClusterUpdate) -> Option<ClusterUpdate> {
        self.apps.append(&mut page.apps);
        self.kicks.append(&mut page.kicks);
        if page.more {
            return None;
        }
        page.apps = std::mem::take(&mut self.apps);
        page.kicks = std::mem::take(&mut self.kicks);
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_update_counts_before_its_last_message_and_all_of_it_then() {
        let app = |id: &str| App {
            app_id: id.into(),
            ..App::default()
        };
        let mut pages = Pages::default();
        let first = ClusterUpdate {
            apps: vec![app("one")],
            kicks: vec![Kick::default()],
            more: true,
            ..ClusterUpdate::default()
        };
        assert_eq!(pages.join(first), None);
        let last = ClusterUpdate {
            map_version: 7,
            apps: vec![app("two")],
            ..ClusterUpdate::default()
        };
        let update = pages.join(last.clone()).unwrap();
        assert_eq!(update.apps, [app("one"), app("two")]);
        assert_eq!((update.map_version, update.kicks.len()), (7, 1));
        assert_eq!(pages.join(last.clone()), Some(last), "nothing is left");
    }
}
