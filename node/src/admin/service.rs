//! The gRPC face of the admin API: checks the operator's certificate and takes each call to its file.

use std::sync::Arc;

use parlance_proto::admin::v1::admin_server::Admin;
use parlance_proto::admin::v1::*;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::ShardId;
use tonic::{Request, Response, Status};

use super::caller::of_admin;
use super::{apps, certificates, digest, drain, replace, sessions, status, upgrade, users};
use crate::cluster::{NodeContext, Runtime, init_cluster};
use crate::link::certificate_of_peer;

/// Serves operators, before and after the node is in a cluster.
pub struct AdminService {
    /// The node.
    pub context: Arc<NodeContext>,
}

type Answer<T> = Result<Response<T>, Status>;

impl AdminService {
    fn runtime(&self) -> Result<Arc<Runtime>, Error> {
        self.context.runtime().ok_or_else(|| {
            let message =
                "this node is not a member of a cluster yet: parlance cluster init makes one";
            Error::new(ErrorCode::PreconditionFailed, message)
        })
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn init_cluster(
        &self,
        request: Request<InitClusterRequest>,
    ) -> Answer<InitClusterResponse> {
        let (caller, ask) = of_admin(request, "cluster init")?;
        let context = self.context.clone();
        let made = async move {
            let cluster_id = init_cluster(&context, ask).await?;
            Ok(InitClusterResponse { cluster_id })
        };
        caller.changes(String::new(), made).await
    }

    async fn get_cluster_status(
        &self,
        request: Request<GetClusterStatusRequest>,
    ) -> Answer<GetClusterStatusResponse> {
        of_admin(request, "cluster status")?;
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
        let (caller, ask) = of_admin(request, "node replace")?;
        let new = ask.new_node.as_ref().map_or(0, |new| new.node_id);
        let subject = format!("node {} by node {new}", ask.old_node_id);
        let (context, runtime) = (self.context.clone(), self.runtime());
        let replaced = async move {
            let map_version = replace::replace(&context, &*runtime?, ask).await?;
            Ok(ReplaceNodeResponse { map_version })
        };
        caller.changes(subject, replaced).await
    }

    async fn create_app(&self, request: Request<CreateAppRequest>) -> Answer<CreateAppResponse> {
        let (caller, ask) = of_admin(request, "app create")?;
        let subject = app_named(&ask.app_id);
        let runtime = self.runtime();
        let created = async move {
            let app = Some(apps::create(&*runtime?, ask).await?);
            Ok(CreateAppResponse { app })
        };
        caller.changes(subject, created).await
    }

    async fn set_app_limits(
        &self,
        request: Request<SetAppLimitsRequest>,
    ) -> Answer<SetAppLimitsResponse> {
        let (caller, ask) = of_admin(request, "app limits")?;
        let subject = app_named(&ask.app_id);
        let runtime = self.runtime();
        let set = async move {
            apps::set_limits(&*runtime?, ask).await?;
            Ok(SetAppLimitsResponse {})
        };
        caller.changes(subject, set).await
    }

    async fn list_apps(&self, request: Request<ListAppsRequest>) -> Answer<ListAppsResponse> {
        let (_, ask) = of_admin(request, "app list")?;
        let page = apps::list(&*self.runtime()?, &ask.after_app_id);
        Ok(Response::new(page))
    }

    async fn get_app(&self, request: Request<GetAppRequest>) -> Answer<GetAppResponse> {
        let (caller, ask) = of_admin(request, "app secret read")?;
        let app = self.runtime();
        let app = app.and_then(|runtime| apps::get(&runtime, &ask.app_id, ask.with_secrets));
        let app = app.map(|app| GetAppResponse { app: Some(app) });
        if !ask.with_secrets {
            return Ok(Response::new(app?));
        }
        caller.noted(&app_named(&ask.app_id), app)
    }

    async fn change_app(&self, request: Request<ChangeAppRequest>) -> Answer<ChangeAppResponse> {
        let (caller, ask) = of_admin(request, "app change")?;
        let mut subject = app_named(&ask.app_id);
        if let Some(disabled) = ask.disabled {
            subject.push_str(if disabled { ", disabled" } else { ", enabled" });
        }
        if let Some(life) = ask.token_life_max_ms {
            subject.push_str(&format!(", token_life_max_ms {life}"));
        }
        for (switch, on) in [
            ("token04_gcm_only", ask.token04_gcm_only),
            ("alivc_nonce_prefix", ask.alivc_nonce_prefix),
        ] {
            if let Some(on) = on {
                subject.push_str(&format!(", {switch} {on}"));
            }
        }
        for (what, aliases) in [
            ("alias", &ask.add_aliases),
            ("no alias", &ask.remove_aliases),
        ] {
            for alias in aliases {
                subject.push_str(&format!(", {what} {alias:?}"));
            }
        }
        let runtime = self.runtime();
        let changed = async move {
            let app = Some(apps::change(&*runtime?, ask).await?);
            Ok(ChangeAppResponse { app })
        };
        caller.changes(subject, changed).await
    }

    async fn add_app_secret(
        &self,
        request: Request<AddAppSecretRequest>,
    ) -> Answer<AddAppSecretResponse> {
        let (caller, ask) = of_admin(request, "app secret add")?;
        let format = ask.format().as_str_name();
        let (subject, runtime) = (
            format!("{}, {format}", app_named(&ask.app_id)),
            self.runtime(),
        );
        let added = async move {
            let secret = Some(apps::add_secret(&*runtime?, ask).await?);
            Ok(AddAppSecretResponse { secret })
        };
        caller.changes(subject, added).await
    }

    async fn retire_app_secret(
        &self,
        request: Request<RetireAppSecretRequest>,
    ) -> Answer<RetireAppSecretResponse> {
        let (caller, ask) = of_admin(request, "app secret retire")?;
        let subject = format!("{}, secret {:?}", app_named(&ask.app_id), ask.secret_id);
        let runtime = self.runtime();
        let retired = async move {
            apps::retire_secret(&*runtime?, ask).await?;
            Ok(RetireAppSecretResponse {})
        };
        caller.changes(subject, retired).await
    }

    async fn kick_user(&self, request: Request<KickUserRequest>) -> Answer<KickUserResponse> {
        let (caller, ask) = of_admin(request, "user kick")?;
        let mut subject = format!("{}, user {:?}", app_named(&ask.app_id), ask.user_id);
        if let Some(for_ms) = ask.for_ms {
            subject.push_str(&format!(", for_ms {for_ms}"));
        }
        subject.push_str(&format!(", reason {:?}", ask.reason));
        let runtime = self.runtime();
        let kicked = async move { users::kick(&*runtime?, ask).await };
        caller.changes(subject, kicked).await
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Answer<ListSessionsResponse> {
        let (_, ask) = of_admin(request, "session list")?;
        let gateways = self.context.links().gateways();
        Ok(Response::new(sessions::list(gateways, ask).await))
    }

    async fn get_replica_digest(
        &self,
        request: Request<GetReplicaDigestRequest>,
    ) -> Answer<GetReplicaDigestResponse> {
        let (_, ask) = of_admin(request, "replica digest")?;
        let digest = digest::of_replica(&*self.runtime()?, ShardId(ask.shard)).await?;
        Ok(Response::new(GetReplicaDigestResponse {
            applied: digest.applied,
            digest_hex: digest.hash_hex,
            rows: digest.rows,
        }))
    }

    async fn drain_node(&self, request: Request<DrainNodeRequest>) -> Answer<DrainNodeResponse> {
        let (caller, ask) = of_admin(request, "node drain")?;
        let subject = format!("node {}", self.context.node_id());
        let runtime = self.runtime();
        let drained = async move {
            let still_leading = drain::drain(&*runtime?, &ask).await;
            Ok(DrainNodeResponse { still_leading })
        };
        caller.changes(subject, drained).await
    }

    async fn split_shard(&self, request: Request<SplitShardRequest>) -> Answer<SplitShardResponse> {
        let (caller, ask) = of_admin(request, "cluster split")?;
        let shard = ShardId(ask.shard);
        let first_slot = (ask.first_slot != 0).then_some(ask.first_slot);
        let runtime = self.runtime();
        let split = async move {
            let done = runtime?.splitter().split(shard, first_slot).await?;
            Ok(SplitShardResponse {
                child: done.child.0,
                first_slot: done.range.first().number().into(),
                last_slot: done.range.last().number().into(),
                map_version: done.map_version,
            })
        };
        caller.changes(format!("shard {shard}"), split).await
    }

    async fn upgrade_cluster(
        &self,
        request: Request<UpgradeClusterRequest>,
    ) -> Answer<UpgradeClusterResponse> {
        let (caller, ask) = of_admin(request, "cluster upgrade")?;
        let runtime = self.runtime();
        let upgraded = async move { upgrade::upgrade(&*runtime?, ask.check_only).await };
        if ask.check_only {
            return Ok(Response::new(upgraded.await?));
        }
        caller.changes(String::new(), upgraded).await
    }

    async fn deny_certificate(
        &self,
        request: Request<DenyCertificateRequest>,
    ) -> Answer<DenyCertificateResponse> {
        let own = certificate_of_peer(&request)?;
        let (caller, ask) = of_admin(request, "certificate deny")?;
        let subject = format!("certificate {}", ask.serial_hex);
        let runtime = self.runtime();
        let denied = async move {
            let map_version = certificates::deny(&*runtime?, &own, ask).await?;
            Ok(DenyCertificateResponse { map_version })
        };
        caller.changes(subject, denied).await
    }

    async fn allow_certificate(
        &self,
        request: Request<AllowCertificateRequest>,
    ) -> Answer<AllowCertificateResponse> {
        let (caller, ask) = of_admin(request, "certificate allow")?;
        let subject = format!("certificate {}", ask.serial_hex);
        let runtime = self.runtime();
        let allowed = async move {
            let map_version = certificates::allow(&*runtime?, &ask).await?;
            Ok(AllowCertificateResponse { map_version })
        };
        caller.changes(subject, allowed).await
    }

    async fn list_denied_certificates(
        &self,
        request: Request<ListDeniedCertificatesRequest>,
    ) -> Answer<ListDeniedCertificatesResponse> {
        of_admin(request, "certificate list")?;
        Ok(Response::new(ListDeniedCertificatesResponse {
            certificates: certificates::list(&*self.runtime()?),
        }))
    }
}

fn app_named(app_id: &str) -> String {
    format!("app {app_id:?}")
}
