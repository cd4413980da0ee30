//! Forged, foreign and expired tokens; certificates of strangers and of the wrong role.

use anyhow::{Result, ensure};
use parlance_proto::tls::Role;
use parlance_testkit::certs::Authority;
use parlance_tests::admin::channel;
use parlance_tests::client::{CallError, Connection};
use parlance_tests::cluster::Cluster;
use parlance_tests::token::{Signer, unsigned};
use serde_json::json;

use crate::SOON;

const TOKEN_REFUSED: u16 = 4002;

#[allow(clippy::too_many_lines, reason = "most of it is the table")]
pub(crate) async fn bad_tokens(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    let (good, app) = (&cluster.signer, cluster.signer.app_id.as_str());
    let foreign = Signer::new(app, "a secret of somebody else, 32 byte");
    let now = parlance_tests::clock::unix_seconds();
    let claims = json!({"app": app, "sub": "bob", "exp": now + 600});
    let token = good.token("bob");
    let (head, tail) = token.split_at(token.len() - 4);
    let (alg_none, alg_other) = (
        json!({"alg": "none", "typ": "JWT"}),
        json!({"alg": "HS512", "typ": "JWT"}),
    );
    let table = [
        ("nothing", String::new(), "token_invalid"),
        ("no token at all", "hello".into(), "token_invalid"),
        ("only dots", "..".into(), "token_invalid"),
        (
            "a changed signature",
            format!("{head}AAAA{}", &tail[4..]),
            "token_invalid",
        ),
        ("a cut signature", head.to_owned(), "token_invalid"),
        ("a foreign secret", foreign.token("bob"), "token_invalid"),
        (
            "alg none without a signature",
            format!("{}.", unsigned(&alg_none, &claims)),
            "token_invalid",
        ),
        (
            "alg none with a signature",
            good.assemble(&alg_none, &claims),
            "token_invalid",
        ),
        (
            "another algorithm",
            good.assemble(&alg_other, &claims),
            "token_invalid",
        ),
        (
            "no expiry",
            good.sign(&json!({"app": app, "sub": "bob"})),
            "token_invalid",
        ),
        (
            "no user",
            good.sign(&json!({"app": app, "exp": now + 600})),
            "token_invalid",
        ),
        (
            "an empty user",
            good.sign(&json!({"app": app, "sub": "", "exp": now + 600})),
            "token_invalid",
        ),
        (
            "a number as user",
            good.sign(&json!({"app": app, "sub": 5, "exp": now + 600})),
            "token_invalid",
        ),
        (
            "no app",
            good.sign(&json!({"sub": "bob", "exp": now + 600})),
            "token_invalid",
        ),
        (
            "not yet",
            good.sign(&json!({"app": app, "sub": "bob", "exp": now + 900, "nbf": now + 600})),
            "token_invalid",
        ),
        (
            "of the future",
            good.sign(&json!({"app": app, "sub": "bob", "iat": now + 600, "exp": now + 900})),
            "token_invalid",
        ),
        (
            "for a hundred years",
            good.sign(&json!({"app": app, "sub": "bob", "iat": now, "exp": now + 3_155_760_000})),
            "token_invalid",
        ),
        (
            "expired",
            good.sign(&json!({"app": app, "sub": "bob", "exp": now - 600})),
            "token_expired",
        ),
        (
            "another app",
            Signer::new("nowhere", "another secret").token("bob"),
            "app_unknown",
        ),
    ];
    for (name, token, code) in table {
        let mut connection = Connection::open(gateway).await?;
        let answer = connection.login(&token).await;
        let got = answer.as_ref().err().and_then(CallError::code);
        ensure!(
            got.as_deref() == Some(code),
            "{name}: expected {code}, got {answer:?}"
        );
        let end = connection.closed_within(SOON).await;
        ensure!(
            end.close_code() == Some(TOKEN_REFUSED),
            "{name}: expected close code {TOKEN_REFUSED}, got {end}"
        );
    }
    Ok(())
}

pub(crate) async fn bad_certificates(cluster: &Cluster) -> Result<()> {
    use parlance_proto::admin::v1::admin_client::AdminClient;
    use parlance_proto::admin::v1::{CreateAppRequest, GetClusterStatusRequest};
    use parlance_proto::link::v1::GatewayFrame;
    use parlance_proto::link::v1::link_client::LinkClient;

    let address = cluster.address.link(1).to_string();
    let ca = &cluster.operator.ca;
    let foreign = Authority::create(&cluster.dir().join("foreign"))?;
    let strangers = [None, Some(foreign.issue("stranger", Role::Admin)?)];
    for identity in &strangers {
        // With TLS 1.3 a client learns only from its first call that its certificate was not taken.
        if let Ok(channel) = channel(&address, ca, identity.as_ref()).await {
            let answer = AdminClient::new(channel)
                .get_cluster_status(GetClusterStatusRequest {})
                .await;
            ensure!(
                answer.is_err(),
                "without a certificate of the cluster: {answer:?}"
            );
        }
    }
    for role in [Role::Gateway("gateway-1".into()), Role::Node(1)] {
        let identity = cluster.authority.issue("wrong-role", role.clone())?;
        let request = CreateAppRequest {
            app_id: "stolen".into(),
            ..CreateAppRequest::default()
        };
        let answer = AdminClient::new(channel(&address, ca, Some(&identity)).await?)
            .create_app(request)
            .await;
        let code = answer.as_ref().err().map(tonic::Status::code);
        ensure!(
            code == Some(tonic::Code::PermissionDenied),
            "{role:?} on the admin API: {answer:?}"
        );
    }
    let identity = cluster.authority.issue("node-on-link", Role::Node(2))?;
    let mut link = LinkClient::new(channel(&address, ca, Some(&identity)).await?);
    let hello = GatewayFrame::default();
    let answer = link.open(futures::stream::iter([hello])).await;
    let code = answer.as_ref().err().map(tonic::Status::code);
    ensure!(
        code == Some(tonic::Code::PermissionDenied),
        "a node opens a link: {:?}",
        answer.map(|_| "accepted")
    );
    Ok(())
}
