//! The admin connection against a node of a few lines, with real certificates.

use parlance_proto::admin::v1::admin_server::{Admin as AdminService, AdminServer};
use parlance_proto::admin::v1::*;
use parlance_proto::common::v1::{Error, ErrorCode, TokenFormat};
use parlance_proto::tls::Role;
use parlance_testkit::peer::NodePeer;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::*;
use crate::ca::Authority;

/// Knows one app, and refuses everything else with an error of ours.
struct OneApp;

fn refused() -> Status {
    Error::new(ErrorCode::PreconditionFailed, "this node only lists").into()
}

#[tonic::async_trait]
impl AdminService for OneApp {
    async fn get_app(
        &self,
        request: Request<GetAppRequest>,
    ) -> Result<Response<GetAppResponse>, Status> {
        let app_id = request.into_inner().app_id;
        if app_id != "shop" {
            return Err(
                Error::new(ErrorCode::NotFound, format!("there is no app {app_id:?}")).into(),
            );
        }
        let secrets = vec![AppSecret {
            secret_id: "s-1".into(),
            secret: "psk_1".into(),
            created_ms: 1,
            format: TokenFormat::Jwt.into(),
        }];
        Ok(Response::new(GetAppResponse {
            app: Some(App {
                app_id,
                secrets,
                ..Default::default()
            }),
        }))
    }
    async fn init_cluster(
        &self,
        _: Request<InitClusterRequest>,
    ) -> Result<Response<InitClusterResponse>, Status> {
        Err(refused())
    }
    async fn get_cluster_status(
        &self,
        _: Request<GetClusterStatusRequest>,
    ) -> Result<Response<GetClusterStatusResponse>, Status> {
        Err(refused())
    }
    async fn replace_node(
        &self,
        _: Request<ReplaceNodeRequest>,
    ) -> Result<Response<ReplaceNodeResponse>, Status> {
        Err(refused())
    }
    async fn create_app(
        &self,
        _: Request<CreateAppRequest>,
    ) -> Result<Response<CreateAppResponse>, Status> {
        Err(refused())
    }
    async fn set_app_limits(
        &self,
        _: Request<SetAppLimitsRequest>,
    ) -> Result<Response<SetAppLimitsResponse>, Status> {
        Err(refused())
    }
    async fn list_apps(
        &self,
        _: Request<ListAppsRequest>,
    ) -> Result<Response<ListAppsResponse>, Status> {
        Err(refused())
    }
    async fn change_app(
        &self,
        _: Request<ChangeAppRequest>,
    ) -> Result<Response<ChangeAppResponse>, Status> {
        Err(refused())
    }
    async fn add_app_secret(
        &self,
        _: Request<AddAppSecretRequest>,
    ) -> Result<Response<AddAppSecretResponse>, Status> {
        Err(refused())
    }
    async fn retire_app_secret(
        &self,
        _: Request<RetireAppSecretRequest>,
    ) -> Result<Response<RetireAppSecretResponse>, Status> {
        Err(refused())
    }
    async fn kick_user(
        &self,
        _: Request<KickUserRequest>,
    ) -> Result<Response<KickUserResponse>, Status> {
        Err(refused())
    }
    async fn list_sessions(
        &self,
        _: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        Err(refused())
    }
    async fn get_replica_digest(
        &self,
        _: Request<GetReplicaDigestRequest>,
    ) -> Result<Response<GetReplicaDigestResponse>, Status> {
        Err(refused())
    }
    async fn drain_node(
        &self,
        _: Request<DrainNodeRequest>,
    ) -> Result<Response<DrainNodeResponse>, Status> {
        Err(refused())
    }
    async fn split_shard(
        &self,
        _: Request<SplitShardRequest>,
    ) -> Result<Response<SplitShardResponse>, Status> {
        Err(refused())
    }
    async fn deny_certificate(
        &self,
        _: Request<DenyCertificateRequest>,
    ) -> Result<Response<DenyCertificateResponse>, Status> {
        Err(refused())
    }
    async fn allow_certificate(
        &self,
        _: Request<AllowCertificateRequest>,
    ) -> Result<Response<AllowCertificateResponse>, Status> {
        Err(refused())
    }
    async fn list_denied_certificates(
        &self,
        _: Request<ListDeniedCertificatesRequest>,
    ) -> Result<Response<ListDeniedCertificatesResponse>, Status> {
        Err(refused())
    }
    async fn upgrade_cluster(
        &self,
        _: Request<UpgradeClusterRequest>,
    ) -> Result<Response<UpgradeClusterResponse>, Status> {
        Err(refused())
    }
}

async fn serve(authority: &Authority) -> NodePeer {
    let files = authority.issue(&Role::Node(1), Duration::from_secs(3600));
    let services = Routes::new(AdminServer::new(OneApp));
    NodePeer::start(&files.unwrap(), services).await.unwrap()
}

#[tokio::test]
async fn the_next_node_is_asked_when_one_does_not_answer_and_errors_keep_their_code() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path()).unwrap();
    let admin_files = authority
        .issue(&Role::Admin, Duration::from_secs(3600))
        .unwrap();
    let node = serve(&authority).await;
    let address = node.address.to_string();
    let addresses = ["127.0.0.1:1".to_owned(), address.clone()];
    let mut admin = Admin::connect_any(&addresses, &admin_files).await.unwrap();
    assert_eq!(admin.address, address);
    assert_eq!(
        admin
            .app_secret(&AppId::new("shop").unwrap(), TokenFormat::Jwt)
            .await
            .unwrap(),
        "psk_1"
    );

    let missing = admin
        .app_secret(&AppId::new("shoe").unwrap(), TokenFormat::Jwt)
        .await
        .unwrap_err();
    assert_eq!(crate::exit::code_of(&missing), crate::exit::NOT_POSSIBLE);
    let text = format!("{missing:#}");
    assert!(
        text.contains(&address) && text.contains("there is no app \"shoe\""),
        "{text}"
    );

    let nobody = Admin::connect_any(&addresses[..1], &admin_files)
        .await
        .err()
        .unwrap();
    assert_eq!(crate::exit::code_of(&nobody), crate::exit::FAILED);
    assert!(nobody.to_string().contains("127.0.0.1:1"), "{nobody}");
}

#[tokio::test]
async fn a_node_of_another_authority_is_not_trusted() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = serve(&Authority::create(dir.path()).unwrap()).await;
    let address = node.address.to_string();
    let stranger = Authority::create(other.path()).unwrap();
    let files = stranger
        .issue(&Role::Admin, Duration::from_secs(3600))
        .unwrap();
    let error = Admin::connect_any(&[address], &files)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("certificate"), "{error}");
}
