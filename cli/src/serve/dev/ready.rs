//! What `parlance dev` says once it is ready: addresses, and two log-ins to chat with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parlance_proto::ids::{AppId, UserId};
use serde::Serialize;

use super::APP;
use super::gateways::Gateways;
use super::state::DevNode;
use crate::commands::Session;
use crate::output::say;
use crate::token;

/// A working week with one cluster; the next run signs new ones.
const TOKEN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// One line of JSON on stdout; the field names are stable.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    pub cluster_id: String,
    pub page: String,
    pub gateways: Vec<String>,
    pub app_id: String,
    pub log_ins: Vec<LogIn>,
    pub nodes: Vec<DevNode>,
    pub ops: String,
    pub context_file: PathBuf,
}

#[derive(Debug, Serialize)]
pub(super) struct LogIn {
    pub user: String,
    pub token: String,
    /// The page, logged in; its fragment never leaves the browser.
    pub url: String,
}

/// Two users who find each other through different gateways.
pub(super) fn log_ins(gateways: &Gateways, secret: &str) -> anyhow::Result<Vec<LogIn>> {
    let (addresses, urls) = (gateways.addresses(), gateways.urls());
    ["alice", "bob"]
        .iter()
        .enumerate()
        .filter(|_| !addresses.is_empty())
        .map(|(place, user)| {
            let own = place % addresses.len();
            let (app, id) = (AppId::new(APP)?, UserId::new(user)?);
            let token = token::issue(&app, &id, secret, TOKEN_TTL)?;
            // The user's own gateway first; the others are where a client goes when it is lost.
            let order: Vec<_> = urls
                .iter()
                .cycle()
                .skip(own)
                .take(urls.len())
                .cloned()
                .collect();
            let host = addresses
                .get(own)
                .map(ToString::to_string)
                .unwrap_or_default();
            let url = format!(
                "http://{host}/#user={user}&token={token}&gateways={}",
                order.join(",")
            );
            Ok(LogIn {
                user: (*user).to_owned(),
                token,
                url,
            })
        })
        .collect()
}

/// As JSON on stdout, or for a person.
pub(super) fn print(
    session: &Session,
    ready: &Ready,
    dir: &Path,
    has_page: bool,
) -> anyhow::Result<()> {
    if session.output.is_json() {
        return session.output.line_json(ready);
    }
    let mut text = format!(
        "cluster {} is ready, data in {}\n\n",
        ready.cluster_id,
        dir.display()
    );
    if has_page {
        text.push_str(&format!("  page       {}\n", ready.page));
    }
    text.push_str(&format!("  gateways   {}\n", ready.gateways.join("  ")));
    for node in &ready.nodes {
        text.push_str(&format!(
            "  node {}     {} (admin, link), {} (raft)\n",
            node.node_id, node.link_address, node.raft_address
        ));
    }
    text.push_str(&format!(
        "  operations {}/metrics  /healthz  /readyz\n",
        ready.ops
    ));
    text.push_str(&format!("  app        {}\n", ready.app_id));
    if has_page {
        text.push_str("\nTwo log-ins; open each in a window of its own:\n");
        for log_in in &ready.log_ins {
            text.push_str(&format!("\n  {}: {}\n", log_in.user, log_in.url));
        }
    }
    text.push_str("\nOr in other terminals:\n\n  parlance tail --as bob\n  parlance send --as alice --to bob 'hello'\n");
    session.output.text(&text)?;
    say("Ctrl-C stops it.");
    Ok(())
}
