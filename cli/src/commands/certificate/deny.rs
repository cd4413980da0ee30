//! `parlance certificate deny`.

use parlance_proto::admin::v1::DenyCertificateRequest;
use parlance_proto::tls::Serial;
use serde::Serialize;

use crate::admin::Admin;
use crate::commands::Session;

#[derive(Serialize)]
struct Denied {
    serial: String,
    map_version: u64,
}

pub(super) async fn run(
    session: &Session,
    serial: &Serial,
    reason: String,
    although_used: bool,
) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let serial = serial.to_string();
    let request = DenyCertificateRequest {
        serial_hex: serial.clone(),
        reason,
        although_used,
    };
    let answer = admin.api.deny_certificate(request).await;
    let map_version = answer
        .map_err(|status| admin.failed("deny the certificate", &status))?
        .into_inner()
        .map_version;
    let denied = Denied {
        serial,
        map_version,
    };
    session
        .output
        .print(&denied, |_, denied| format!("denied {}", denied.serial))
}
