//! `parlance cluster split`: a shard becomes two, so that more nodes and cores share its load.

use parlance_proto::admin::v1::SplitShardRequest;
use serde::Serialize;

use crate::admin::Admin;
use crate::commands::Session;
use crate::output::say;

#[derive(Serialize)]
struct Split {
    shard: u32,
    child: u32,
    first_slot: u32,
    last_slot: u32,
    map_version: u64,
}

pub(super) async fn run(session: &Session, shard: u32, at: Option<u32>) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let request = SplitShardRequest {
        shard,
        first_slot: at.unwrap_or(0),
    };
    let answer = admin.api.split_shard(request).await;
    let answer = answer
        .map_err(|status| admin.failed(&format!("split shard {shard}"), &status))?
        .into_inner();
    let split = Split {
        shard,
        child: answer.child,
        first_slot: answer.first_slot,
        last_slot: answer.last_slot,
        map_version: answer.map_version,
    };
    say(format!(
        "shard {} has slots {} to {} of shard {shard} now; its leader moves to another node if one leads fewer",
        split.child, split.first_slot, split.last_slot
    ));
    session
        .output
        .print(&split, |_, split| split.child.to_string())
}
