//! The gateways of a dev cluster: the first listens where the page is, the others on the next ports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::future::{join_all, try_join_all};
use parlance_gateway::{Config, Gateway};
use parlance_proto::tls::Role;
use serde_json::json;

use super::cluster::certificate;
use super::state::DevState;
use crate::args::DevArgs;
use crate::ca::Authority;
use crate::exit::not_possible;
use crate::ops::Probes;
use crate::serve::process;

/// The nodes are ready by now: this is the time to learn of the cluster and open the links.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// All gateways stop together here: there is nowhere else for clients to go.
const DRAIN_MS: u64 = 500;

/// All gateways of this process.
pub(super) struct Gateways(Vec<Arc<Gateway>>);

impl Gateways {
    pub(super) async fn start(
        authority: &Authority,
        state: &DevState,
        args: &DevArgs,
    ) -> anyhow::Result<Self> {
        let page_dir = args
            .page_dir
            .as_ref()
            .map(std::path::absolute)
            .transpose()
            .context("resolve --page-dir")?;
        let start = async |number: u16| {
            let listen = listen_address(args.http, number)?;
            let gateway_id = format!("dev-{number}");
            let tls = certificate(authority, &Role::Gateway(gateway_id.clone()))?;
            // For development: whoever lets others in with --http means it.
            let plaintext = true;
            let mut config = json!({
                "gateway_id": gateway_id,
                "listener": [{ "address": listen, "plaintext": plaintext }],
                "nodes": state.link_addresses(),
                "tls": tls,
                "limits": { "drain_ms": DRAIN_MS },
            });
            if let (Some(page_dir), Some(config)) = (&page_dir, config.as_object_mut()) {
                config.insert("page_dir".to_owned(), json!(page_dir));
            }
            let config: Config =
                serde_json::from_value(config).context("make the gateway's settings")?;
            let started = Gateway::start(config).await.with_context(|| {
                format!("start gateway {number} on {listen} (another address is chosen with --http HOST:PORT)")
            })?;
            anyhow::Ok(Arc::new(started))
        };
        let gateways = Self(try_join_all((1..=args.gateways).map(start)).await?);
        gateways.wait_ready().await?;
        Ok(gateways)
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let all_ready = async {
            while self.0.iter().any(|gateway| gateway.ready().is_err()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(READY_TIMEOUT, all_ready).await.is_ok() {
            return Ok(());
        }
        let reasons = self.0.iter().filter_map(|gateway| gateway.ready().err());
        Err(anyhow!(
            "gateways are not ready after {READY_TIMEOUT:?}: {}",
            reasons.collect::<Vec<_>>().join("; ")
        ))
    }

    /// Where each listens, the first first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.0.iter().flat_map(|gateway| gateway.addresses());
        addresses.copied().collect()
    }

    /// For clients.
    pub(super) fn urls(&self) -> Vec<String> {
        self.addresses()
            .iter()
            .map(|address| format!("ws://{address}/ws"))
            .collect()
    }

    /// For browsers.
    pub(super) fn page(&self) -> String {
        self.addresses()
            .first()
            .map(|address| format!("http://{address}/"))
            .unwrap_or_default()
    }

    pub(super) fn probe(&self, probes: &mut Probes) {
        for (number, gateway) in (1..).zip(&self.0) {
            let probed = Arc::downgrade(gateway);
            probes.ready(format!("gateway {number}"), move || {
                process::ask(&probed, |gateway| gateway.ready().map(|()| gateway.notes()))
            });
        }
    }

    pub(super) async fn shut_down(self) {
        join_all(
            self.0
                .into_iter()
                .map(async |gateway| process::sole(gateway).await.shutdown().await),
        )
        .await;
    }
}

/// Gateway 1 has the address itself, the others count up; port 0 stays 0 for all.
fn listen_address(http: SocketAddr, number: u16) -> anyhow::Result<SocketAddr> {
    let port = match http.port() {
        0 => 0,
        port => port.checked_add(number - 1).ok_or_else(|| {
            not_possible(format!("--http {http} leaves no port for gateway {number}"))
        })?,
    };
    Ok(SocketAddr::new(http.ip(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_count_up_from_the_first() {
        let address = |http: &str, number| {
            listen_address(http.parse().unwrap(), number).map(|a| a.to_string())
        };
        assert_eq!(address("127.0.0.1:7070", 1).unwrap(), "127.0.0.1:7070");
        assert_eq!(address("127.0.0.1:7070", 2).unwrap(), "127.0.0.1:7071");
        assert_eq!(address("[::1]:0", 2).unwrap(), "[::1]:0");
        assert!(address("127.0.0.1:65535", 2).is_err());
    }
}
