//! `parlance certificate allow`.

use parlance_proto::admin::v1::AllowCertificateRequest;
use parlance_proto::tls::Serial;
use serde::Serialize;

use crate::admin::Admin;
use crate::commands::Session;

#[derive(Serialize)]
struct Allowed {
    serial: String,
    map_version: u64,
}

pub(super) async fn run(session: &Session, serial: &Serial) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let serial = serial.to_string();
    let request = AllowCertificateRequest {
        serial_hex: serial.clone(),
    };
    let answer = admin.api.allow_certificate(request).await;
    let map_version = answer
        .map_err(|status| admin.failed("allow the certificate", &status))?
        .into_inner()
        .map_version;
    let allowed = Allowed {
        serial,
        map_version,
    };
    session
        .output
        .print(&allowed, |_, allowed| format!("allowed {}", allowed.serial))
}
