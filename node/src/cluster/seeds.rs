//! Asks the seeds of an empty node whether the cluster knows its id already.

use std::time::Duration;

use parlance_proto::link::v1::{ClusterUpdate, WatchClusterRequest, link_client::LinkClient};
use parlance_proto::tls::{ANY_NODE, TlsIdentity};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::error::StartError;
use crate::config::Config;

/// How long a seed may take to say whether it knows this node.
const SEED_TIMEOUT: Duration = Duration::from_secs(3);

/// An empty directory under the id of a member is refused, as far as a seed can tell.
pub async fn refuse_if_known(config: &Config, tls: &TlsIdentity) -> Result<(), StartError> {
    for seed in &config.seeds {
        match ask_seed(seed, tls).await {
            Ok(state)
                if state
                    .nodes
                    .iter()
                    .any(|node| node.node_id == config.node_id.0) =>
            {
                return Err(StartError::Known {
                    node_id: config.node_id,
                    cluster_id: state.cluster_id,
                    seed: seed.clone(),
                });
            }
            Ok(_) => return Ok(()),
            Err(reason) => tracing::info!(seed, reason, "a seed could not be asked"),
        }
    }
    Ok(())
}

async fn ask_seed(seed: &str, tls: &TlsIdentity) -> Result<ClusterUpdate, String> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&tls.pem.ca))
        .identity(Identity::from_pem(&tls.pem.cert, &tls.pem.key))
        .domain_name(ANY_NODE);
    let asked = async {
        let channel = Endpoint::from_shared(format!("https://{seed}"))?
            .tls_config(tls)?
            .connect()
            .await?;
        let mut states = LinkClient::new(channel)
            .watch_cluster(WatchClusterRequest::default())
            .await?
            .into_inner();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(states.message().await?)
    };
    let state = tokio::time::timeout(SEED_TIMEOUT, asked)
        .await
        .map_err(|_| "no answer in time".to_owned())?;
    state
        .map_err(|e| e.to_string())?
        .ok_or_else(|| "it said nothing".to_owned())
}
