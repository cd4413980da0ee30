//! The gRPC face of the admin API: checks the operator's certificate and takes each call to its file.

use std::sync::Arc;

use parlance_proto::admin::v1::admin_server::Admin;
use parlance_proto::admin::v1::*;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::tls::Role;
use tonic::{Request, Response, Status};

use super::{apps, bootstrap, membership, status};
use crate::link::role_of_peer;
use crate::member::Member;
use crate::server::Shared;

/// Serves operators, before and after the node is a member.
pub struct AdminService {
    /// The node.
    pub shared: Arc<Shared>,
}

impl AdminService {
    fn member(&self) -> Result<Arc<Member>, Status> {
        self.shared.member().ok_or_else(|| {
            let message =
                "this node is not a member of a cluster yet: parlance cluster init makes one";
            Error::new(ErrorCode::PreconditionFailed, message).into()
        })
    }
}

/// The request of an operator; anybody else's is refused.
fn of_admin<T>(request: Request<T>) -> Result<T, Status> {
    match role_of_peer(&request)? {
        Role::Admin => Ok(request.into_inner()),
        other => {
            tracing::warn!(role = ?other, "an admin call with another role's certificate was refused");
            let message =
                "the admin API needs a certificate with the role admin: parlance ca issue admin";
            Err(Error::new(ErrorCode::PermissionDenied, message).into())
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn init_cluster(
        &self,
        request: Request<InitClusterRequest>,
    ) -> Result<Response<InitClusterResponse>, Status> {
        let (shared, ask) = (self.shared.clone(), of_admin(request)?);
        // A task of its own: a caller that hangs up must not leave a node half a member.
        let made = tokio::spawn(async move { bootstrap::init_cluster(&shared, ask).await });
        let cluster_id = made.await.map_err(|e| Status::internal(e.to_string()))??;
        Ok(Response::new(InitClusterResponse { cluster_id }))
    }

    async fn get_cluster_status(
        &self,
        request: Request<GetClusterStatusRequest>,
    ) -> Result<Response<GetClusterStatusResponse>, Status> {
        of_admin(request)?;
        let nobody = || GetClusterStatusResponse {
            answering_node_id: self.shared.node_id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        };
        Ok(Response::new(
            self.shared
                .member()
                .map_or_else(nobody, |member| status::cluster_status(&member)),
        ))
    }

    async fn replace_node(
        &self,
        request: Request<ReplaceNodeRequest>,
    ) -> Result<Response<ReplaceNodeResponse>, Status> {
        let ask = of_admin(request)?;
        let map_version = membership::replace(&self.shared, &self.member()?, ask).await?;
        Ok(Response::new(ReplaceNodeResponse { map_version }))
    }

    async fn create_app(
        &self,
        request: Request<CreateAppRequest>,
    ) -> Result<Response<CreateAppResponse>, Status> {
        let app = apps::create(&self.member()?, of_admin(request)?).await?;
        Ok(Response::new(CreateAppResponse { app: Some(app) }))
    }

    async fn list_apps(
        &self,
        request: Request<ListAppsRequest>,
    ) -> Result<Response<ListAppsResponse>, Status> {
        of_admin(request)?;
        Ok(Response::new(ListAppsResponse {
            apps: apps::list(&*self.member()?),
        }))
    }

    async fn get_app(
        &self,
        request: Request<GetAppRequest>,
    ) -> Result<Response<GetAppResponse>, Status> {
        let ask = of_admin(request)?;
        let app = apps::get(&*self.member()?, &ask.app_id)?;
        Ok(Response::new(GetAppResponse { app: Some(app) }))
    }

    async fn get_replica_digest(
        &self,
        request: Request<GetReplicaDigestRequest>,
    ) -> Result<Response<GetReplicaDigestResponse>, Status> {
        let ask = of_admin(request)?;
        let member = self.member()?;
        let shard = member.shards().get(ask.shard).ok_or_else(|| {
            Error::new(
                ErrorCode::NotFound,
                format!(
                    "shard {} has no replica on node {}",
                    ask.shard,
                    member.node_id()
                ),
            )
        })?;
        let digest = tokio::task::spawn_blocking(move || member.digest(&shard)).await;
        let internal = |e: String| Status::from(Error::new(ErrorCode::Internal, e));
        let digest = digest
            .map_err(|e| internal(e.to_string()))?
            .map_err(|e| internal(e.to_string()))?;
        Ok(Response::new(GetReplicaDigestResponse {
            applied: digest.applied,
            digest_hex: digest.hash_hex,
            rows: digest.rows,
        }))
    }

    async fn drain_node(
        &self,
        request: Request<DrainNodeRequest>,
    ) -> Result<Response<DrainNodeResponse>, Status> {
        let ask = of_admin(request)?;
        let still_leading = membership::drain(&*self.member()?, ask).await;
        Ok(Response::new(DrainNodeResponse { still_leading }))
    }
}
