//! `parlance node replace`: a new node in the place of a lost one.

use parlance_proto::admin::v1::{NodeStatus, ReplaceNodeRequest};
use serde::Serialize;

use crate::admin::Admin;
use crate::args::NodeSpecArg;
use crate::commands::Session;
use crate::commands::cluster::fetch;
use crate::exit::not_possible;
use crate::output::{confirm, say};

#[derive(Serialize)]
struct Replaced {
    old_node_id: u64,
    new_node_id: u64,
    map_version: u64,
}

pub(super) async fn run(
    session: &Session,
    old: u64,
    with: NodeSpecArg,
    yes: bool,
) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let status = fetch(&mut admin).await?;
    let lost = status
        .nodes
        .iter()
        .find(|n| n.node_id == old)
        .ok_or_else(|| {
            let members = status
                .nodes
                .iter()
                .filter(|n| n.state == "member")
                .map(|n| n.node_id.to_string());
            not_possible(format!(
                "node {old} is not known; members are {}",
                members.collect::<Vec<_>>().join(", ")
            ))
        })?;
    if with.node_id == old {
        return Err(not_possible(format!(
            "node {old} cannot replace itself: give the new node another id"
        )));
    }
    // One that was removed is asked for again after an answer that was lost: the cluster knows by whom it was replaced.
    if lost.state == "member" {
        announce(lost, &with);
        confirm(&format!("replace node {old}"), yes)?;
    }
    let new_node_id = with.node_id;
    let request = ReplaceNodeRequest {
        old_node_id: old,
        new_node: Some(with.to_spec()),
    };
    let answer = admin.api.replace_node(request).await;
    let map_version = answer
        .map_err(|s| admin.failed(&format!("replace node {old}"), &s))?
        .into_inner()
        .map_version;
    say(format!(
        "node {new_node_id} learns now, then votes; follow it with `parlance cluster status`"
    ));
    let replaced = Replaced {
        old_node_id: old,
        new_node_id,
        map_version,
    };
    session.output.print(&replaced, |_, r| {
        format!("replaced {} by {}", r.old_node_id, r.new_node_id)
    })
}

fn announce(lost: &NodeStatus, with: &NodeSpecArg) {
    let old = lost.node_id;
    say(format!(
        "node {} at {} takes the {} replicas of node {old} at {}.",
        with.node_id, with.raft_address, lost.replicas, lost.raft_address
    ));
    say(format!(
        "node {old} is removed for ever: its id and its data directory are never let in again."
    ));
    if lost.reachable {
        say(format!(
            "warning: node {old} is reachable; a healthy node can be drained and kept"
        ));
    }
}
