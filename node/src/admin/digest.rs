//! What a replica's rows come to, for those who compare replicas.

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ShardId;

use crate::cluster::Runtime;
use crate::digest::{Digest, digest};

/// The rows of a shard's replica here.
pub(super) async fn of_replica(runtime: &Runtime, shard: ShardId) -> Result<Digest, Error> {
    let view = runtime.view();
    let Some(here) = view.shards.get(shard) else {
        let message = format!("shard {shard} has no replica on node {}", view.node_id);
        return Err(Error::new(ErrorCode::NotFound, message));
    };
    let digest = tokio::task::spawn_blocking(move || digest(here.raft())).await;
    let internal = |e: String| Error::new(ErrorCode::Internal, e);
    digest
        .map_err(|e| internal(e.to_string()))?
        .map_err(|e| internal(e.to_string()))
}
