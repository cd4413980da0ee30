//! Speaks to the admin API of whichever of a context's nodes answers.

use std::time::Duration;

use anyhow::{Context, anyhow};
use parlance_proto::admin::v1::admin_client::AdminClient;
use parlance_proto::admin::v1::{App, GetAppRequest, ListAppsRequest};
use parlance_proto::common::v1::TokenFormat;
use parlance_proto::error::from_status;
use parlance_proto::ids::AppId;
use parlance_proto::tls::{ANY_NODE, TlsFiles};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::args::TokenFormatArg;
use crate::context::ClusterContext;
use crate::exit::not_possible;

/// A node that is there answers in far less; one that is not should not keep the next from being asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The slowest are those that wait for an election, or for nodes to be invited.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to one node, which passes on what only the leader can do.
pub struct Admin {
    /// Call it as generated, and give failures to [`Admin::failed`].
    pub api: AdminClient<Channel>,
    /// The node's address.
    pub address: String,
}

impl Admin {
    /// Connects to the first node that answers.
    pub async fn connect(context: &ClusterContext) -> anyhow::Result<Self> {
        Self::connect_any(&context.nodes, context.tls()?).await
    }

    /// Connects to the first of these that answers.
    pub async fn connect_any(addresses: &[String], tls: &TlsFiles) -> anyhow::Result<Self> {
        if addresses.is_empty() {
            return Err(not_possible(
                "no node's address is known: give --server HOST:PORT, or choose a context",
            ));
        }
        let tls = tls_config(tls)?;
        let mut failures = Vec::new();
        for address in addresses {
            match connect_one(address, tls.clone()).await {
                Ok(channel) => {
                    return Ok(Self {
                        api: AdminClient::new(channel),
                        address: address.clone(),
                    });
                }
                Err(e) => failures.push(format!("{address}: {e:#}")),
            }
        }
        Err(anyhow!(
            "no node answers:\n  {}\ncheck that nodes run at these addresses and that the certificate is of their authority",
            failures.join("\n  ")
        ))
    }

    /// The error inside a failed call, with who answered so.
    pub fn failed(&self, what: &str, status: &tonic::Status) -> anyhow::Error {
        anyhow::Error::from(from_status(status)).context(format!("{what} at node {}", self.address))
    }

    /// An app; with its secrets, which is noted in the node's log, if they are wanted.
    pub async fn app(&mut self, app_id: &AppId, with_secrets: bool) -> anyhow::Result<App> {
        let request = GetAppRequest {
            app_id: app_id.into(),
            with_secrets,
        };
        let what = format!("get app {app_id:?}");
        let answer = self
            .api
            .get_app(request)
            .await
            .map_err(|status| self.failed(&what, &status))?;
        answer
            .into_inner()
            .app
            .with_context(|| format!("{what}: the node answered without it"))
    }

    /// All apps, without their secrets.
    pub async fn apps(&mut self) -> anyhow::Result<Vec<App>> {
        let mut apps: Vec<App> = Vec::new();
        loop {
            let after_app_id = apps.last().map(|app| app.app_id.clone());
            let request = ListAppsRequest {
                after_app_id: after_app_id.unwrap_or_default(),
            };
            let answer = self.api.list_apps(request).await;
            let page = answer.map_err(|status| self.failed("list apps", &status))?;
            let page = page.into_inner();
            apps.extend(page.apps);
            if !page.more {
                return Ok(apps);
            }
        }
    }

    /// The secret to make an app's tokens of a format with: the newest, as the older one is to be retired.
    pub async fn app_secret(
        &mut self,
        app_id: &AppId,
        format: TokenFormat,
    ) -> anyhow::Result<String> {
        let app = self.app(app_id, true).await?;
        let format = TokenFormatArg::from(format);
        let of_format = app.secrets.into_iter();
        let mut of_format = of_format.filter(|s| TokenFormatArg::from(s.format()) == format);
        of_format.next_back().map(|secret| secret.secret).ok_or_else(|| {
            not_possible(format!(
                "app {app_id:?} has no secret of the format {format}: add one by `parlance app secret add {app_id} --format {format}`"
            ))
        })
    }
}

fn tls_config(files: &TlsFiles) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("read {}", path.display()))
    };
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&files.ca)?))
        .identity(Identity::from_pem(read(&files.cert)?, read(&files.key)?))
        .domain_name(ANY_NODE))
}

async fn connect_one(address: &str, tls: ClientTlsConfig) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(|_| not_possible("not an address of the form HOST:PORT"))?
        .tls_config(tls)
        .map_err(|e| not_possible(format!("the certificates cannot be used: {}", chain(&e))))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT);
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(e)) => Err(anyhow!(chain(&e))),
        Err(_) => Err(anyhow!("no answer within {CONNECT_TIMEOUT:?}")),
    }
}

/// The transport's errors say what went wrong in their sources only.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
#[path = "admin_test.rs"]
mod tests;
