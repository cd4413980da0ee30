//! `parlance node drain`: leaderships go to other nodes, so that a stop afterwards costs no election.

use std::time::Duration;

use anyhow::anyhow;
use parlance_proto::admin::v1::DrainNodeRequest;
use serde::Serialize;

use crate::admin::Admin;
use crate::commands::Session;
use crate::commands::cluster::fetch;
use crate::exit::not_possible;

#[derive(Serialize)]
struct Drained {
    node_id: u64,
    still_leading: u32,
}

pub(super) async fn run(session: &Session, node_id: u64, timeout: Duration) -> anyhow::Result<()> {
    let context = session.resolve()?.context;
    let status = fetch(&mut Admin::connect(&context).await?).await?;
    let node = status
        .nodes
        .iter()
        .find(|n| n.node_id == node_id && n.state == "member")
        .ok_or_else(|| not_possible(format!("node {node_id} is not a member of the cluster")))?;
    // Only the node itself can hand over what it leads.
    let mut admin =
        Admin::connect_any(std::slice::from_ref(&node.link_address), context.tls()?).await?;
    let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    let what = format!("drain node {node_id}");
    let answer = admin.api.drain_node(DrainNodeRequest { timeout_ms }).await;
    let still_leading = answer
        .map_err(|status| admin.failed(&what, &status))?
        .into_inner()
        .still_leading;
    session.output.print(
        &Drained {
            node_id,
            still_leading,
        },
        |_, d| format!("node {} leads {} shards", d.node_id, d.still_leading),
    )?;
    if still_leading > 0 {
        return Err(anyhow!(
            "{what}: it still leads {still_leading} shards after {timeout:?}; ask again, or see `parlance cluster status`"
        ));
    }
    Ok(())
}
