//! The gRPC face of the admin API: checks the operator's certificate and takes each call to its file.

use std::sync::Arc;

use parlance_proto::admin::v1::admin_server::Admin;
use parlance_proto::admin::v1::*;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ShardId;
use tonic::{Request, Response, Status};

use super::caller::{Caller, of_admin};
use super::{apps, digest, nodes, status, upgrade};
use crate::cluster::{NodeContext, Runtime, init_cluster};

/// Serves operators, before and after the node is in a cluster.
pub struct AdminService {
    /// The node.
    pub context: Arc<NodeContext>,
}

type Answer<T> = Result<Response<T>, Status>;

impl AdminService {
    fn runtime(&self) -> Result<Arc<Runtime>, Status> {
        self.context.runtime().ok_or_else(|| {
            let message =
                "this node is not a member of a cluster yet: parlance cluster init makes one";
            Error::new(ErrorCode::PreconditionFailed, message).into()
        })
    }
}

/// A change's answer, with a line in the log for it.
fn changed<T>(caller: &Caller, what: &str, subject: &str, result: Result<T, Error>) -> Answer<T> {
    caller.log(what, subject, &result);
    Ok(Response::new(result?))
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn init_cluster(
        &self,
        request: Request<InitClusterRequest>,
    ) -> Answer<InitClusterResponse> {
        let (caller, ask) = of_admin(request)?;
        let context = self.context.clone();
        // A task of its own: a caller that hangs up must not leave a node half a member.
        let made = tokio::spawn(async move { init_cluster(&context, ask).await });
        let made = made.await.map_err(|e| Status::internal(e.to_string()))?;
        let made = made.map(|cluster_id| InitClusterResponse { cluster_id });
        changed(&caller, "cluster init", "", made)
    }

    async fn get_cluster_status(
        &self,
        request: Request<GetClusterStatusRequest>,
    ) -> Answer<GetClusterStatusResponse> {
        of_admin(request)?;
        let nobody = || GetClusterStatusResponse {
            answering_node_id: self.context.node_id().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        };
        let runtime = self.context.runtime();
        let status = runtime.map_or_else(nobody, |runtime| status::cluster_status(&runtime));
        Ok(Response::new(status))
    }

    async fn replace_node(
        &self,
        request: Request<ReplaceNodeRequest>,
    ) -> Answer<ReplaceNodeResponse> {
        let (caller, ask) = of_admin(request)?;
        let subject = format!("node {}", ask.old_node_id);
        let replaced = nodes::replace(&self.context, &*self.runtime()?, ask).await;
        let replaced = replaced.map(|map_version| ReplaceNodeResponse { map_version });
        changed(&caller, "node replace", &subject, replaced)
    }

    async fn create_app(&self, request: Request<CreateAppRequest>) -> Answer<CreateAppResponse> {
        let (caller, ask) = of_admin(request)?;
        let subject = format!("app {:?}", ask.app_id);
        let created = apps::create(&*self.runtime()?, ask).await;
        let created = created.map(|app| CreateAppResponse { app: Some(app) });
        changed(&caller, "app create", &subject, created)
    }

    async fn list_apps(&self, request: Request<ListAppsRequest>) -> Answer<ListAppsResponse> {
        of_admin(request)?;
        Ok(Response::new(ListAppsResponse {
            apps: apps::list(&*self.runtime()?),
        }))
    }

    async fn get_app(&self, request: Request<GetAppRequest>) -> Answer<GetAppResponse> {
        let (caller, ask) = of_admin(request)?;
        let subject = format!("app {:?}", ask.app_id);
        let app = apps::get(&*self.runtime()?, &ask.app_id);
        // It changes nothing, but gives secrets away.
        let app = app.map(|app| GetAppResponse { app: Some(app) });
        changed(&caller, "app secrets shown", &subject, app)
    }

    async fn get_replica_digest(
        &self,
        request: Request<GetReplicaDigestRequest>,
    ) -> Answer<GetReplicaDigestResponse> {
        let (_, ask) = of_admin(request)?;
        let digest = digest::of_replica(&*self.runtime()?, ShardId(ask.shard)).await?;
        Ok(Response::new(GetReplicaDigestResponse {
            applied: digest.applied,
            digest_hex: digest.hash_hex,
            rows: digest.rows,
        }))
    }

    async fn drain_node(&self, request: Request<DrainNodeRequest>) -> Answer<DrainNodeResponse> {
        let (caller, ask) = of_admin(request)?;
        let still_leading = nodes::drain(&*self.runtime()?, &ask).await;
        let drained = Ok(DrainNodeResponse { still_leading });
        changed(&caller, "node drain", "this node", drained)
    }

    async fn split_shard(&self, request: Request<SplitShardRequest>) -> Answer<SplitShardResponse> {
        let (caller, ask) = of_admin(request)?;
        let shard = ShardId(ask.shard);
        let subject = format!("shard {shard}");
        let runtime = self.runtime()?;
        let first_slot = (ask.first_slot != 0).then_some(ask.first_slot);
        // A task of its own: a caller that hangs up does not leave it to the background.
        let split = tokio::spawn(async move { runtime.splitter().split(shard, first_slot).await });
        let split = split.await.map_err(|e| Status::internal(e.to_string()))?;
        let split = split.map(|done| SplitShardResponse {
            child: done.child.0,
            first_slot: done.range.first().number().into(),
            last_slot: done.range.last().number().into(),
            map_version: done.map_version,
        });
        changed(&caller, "cluster split", &subject, split)
    }

    async fn upgrade_cluster(
        &self,
        request: Request<UpgradeClusterRequest>,
    ) -> Answer<UpgradeClusterResponse> {
        let (caller, ask) = of_admin(request)?;
        let upgraded = upgrade::upgrade(&*self.runtime()?, ask.check_only).await;
        if ask.check_only {
            return Ok(Response::new(upgraded?));
        }
        changed(&caller, "cluster upgrade", "", upgraded)
    }
}
