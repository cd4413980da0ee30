//! The admin API as an operator's tool speaks it.

mod control;

use std::time::Duration;

use anyhow::{Context, Result};
use parlance_proto::admin::v1 as proto;
use parlance_proto::common::v1::AppLimits;
use parlance_proto::limits::MESSAGES_PER_SECOND_MAX;
use parlance_proto::slot::Slot;
use parlance_proto::tls::{ANY_NODE, TlsFiles};
use proto::admin_client::AdminClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A gRPC channel to a node's listener, with a certificate of the caller's choice or with none.
pub async fn channel(
    address: &str,
    ca: &std::path::Path,
    identity: Option<&TlsFiles>,
) -> Result<Channel> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(std::fs::read(ca)?))
        .domain_name(ANY_NODE);
    if let Some(files) = identity {
        tls = tls.identity(Identity::from_pem(
            std::fs::read(&files.cert)?,
            std::fs::read(&files.key)?,
        ));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?
        .tls_config(tls)?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT);
    endpoint
        .connect()
        .await
        .with_context(|| format!("connect to {address}"))
}

/// One node's admin service.
pub struct Admin {
    client: AdminClient<Channel>,
}

impl Admin {
    /// Connects as an operator.
    pub async fn connect(address: &str, identity: &TlsFiles) -> Result<Self> {
        Ok(Self {
            client: AdminClient::new(channel(address, &identity.ca, Some(identity)).await?),
        })
    }

    /// Makes a cluster.
    pub async fn init(&mut self, nodes: Vec<proto::NodeSpec>, shard_count: u32) -> Result<String> {
        let request = proto::InitClusterRequest { nodes, shard_count };
        Ok(self
            .client
            .init_cluster(request)
            .await?
            .into_inner()
            .cluster_id)
    }

    /// Makes an app, unless it is there already, and gives its first secret. Its users may send as fast as they can.
    pub async fn create_app(&mut self, app_id: &str) -> Result<String> {
        let limits = AppLimits {
            session_messages_per_second: MESSAGES_PER_SECOND_MAX,
            user_messages_per_second: MESSAGES_PER_SECOND_MAX,
            app_messages_per_second: MESSAGES_PER_SECOND_MAX,
        };
        self.create_app_with(app_id, limits).await
    }

    /// Makes an app with limits, unless it is there already, and gives its first secret.
    pub async fn create_app_with(&mut self, app_id: &str, limits: AppLimits) -> Result<String> {
        let app_id = app_id.to_owned();
        let request = proto::CreateAppRequest {
            app_id: app_id.clone(),
            name: "test".to_owned(),
            limits: Some(limits),
            ..proto::CreateAppRequest::default()
        };
        let app = match self.client.create_app(request).await {
            Ok(created) => created.into_inner().app,
            Err(refused) => {
                let with_secrets = true;
                let request = proto::GetAppRequest {
                    app_id,
                    with_secrets,
                };
                let known = self.client.get_app(request).await;
                known.map_err(|_| refused)?.into_inner().app
            }
        };
        let app = app.context("an answer without an app")?;
        let secret = app.secrets.into_iter().next();
        Ok(secret.context("an app without a secret")?.secret)
    }

    /// The apps that the node knows.
    pub async fn app_ids(&mut self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        loop {
            let request = proto::ListAppsRequest {
                after_app_id: ids.last().cloned().unwrap_or_default(),
            };
            let page = self.client.list_apps(request).await?.into_inner();
            ids.extend(page.apps.into_iter().map(|app| app.app_id));
            if !page.more {
                return Ok(ids);
            }
        }
    }

    /// What the node knows of the cluster.
    pub async fn status(&mut self) -> Result<proto::GetClusterStatusResponse> {
        Ok(self
            .client
            .get_cluster_status(proto::GetClusterStatusRequest {})
            .await?
            .into_inner())
    }

    /// Hands over what the node leads; gives how many leaderships are left.
    pub async fn drain(&mut self, timeout_ms: u32) -> Result<u32> {
        let request = proto::DrainNodeRequest { timeout_ms };
        let answer = self.client.drain_node(request).await?;
        Ok(answer.into_inner().still_leading)
    }

    /// Asks whether the feature level could be raised.
    pub async fn upgrade_check(&mut self) -> Result<()> {
        let request = proto::UpgradeClusterRequest { check_only: true };
        self.client.upgrade_cluster(request).await?;
        Ok(())
    }

    /// The state of a replica on this node.
    pub async fn digest(&mut self, shard: u32) -> Result<proto::GetReplicaDigestResponse> {
        Ok(self
            .client
            .get_replica_digest(proto::GetReplicaDigestRequest { shard })
            .await?
            .into_inner())
    }

    /// Splits a shard; its child has what is from `first_slot` on.
    pub async fn split(
        &mut self,
        shard: u32,
        first_slot: Slot,
    ) -> Result<proto::SplitShardResponse> {
        let first_slot = first_slot.number().into();
        let request = proto::SplitShardRequest { shard, first_slot };
        Ok(self.client.split_shard(request).await?.into_inner())
    }

    /// Brings a new node in.
    pub async fn replace(&mut self, old_node_id: u64, new_node: proto::NodeSpec) -> Result<()> {
        let request = proto::ReplaceNodeRequest {
            old_node_id,
            new_node: Some(new_node),
        };
        self.client.replace_node(request).await?;
        Ok(())
    }
}
