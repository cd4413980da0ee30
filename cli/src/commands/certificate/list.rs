//! `parlance certificate list`.

use parlance_proto::admin::v1::ListDeniedCertificatesRequest;
use serde::Serialize;

use crate::admin::Admin;
use crate::commands::Session;
use crate::output::time_text;

#[derive(Serialize)]
struct Denied {
    denied: Vec<Certificate>,
}

#[derive(Serialize)]
struct Certificate {
    serial: String,
    reason: String,
    denied_ms: i64,
}

pub(super) async fn run(session: &Session) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let answer = admin
        .api
        .list_denied_certificates(ListDeniedCertificatesRequest {})
        .await
        .map_err(|status| admin.failed("list denied certificates", &status))?;
    let certificates = answer.into_inner().certificates.into_iter();
    let denied = Denied {
        denied: certificates
            .map(|denied| Certificate {
                serial: denied.serial_hex,
                reason: denied.reason,
                denied_ms: denied.denied_ms,
            })
            .collect(),
    };
    session.output.print(&denied, |output, list| {
        let mut table = output.table(&["SERIAL", "DENIED", "REASON"]);
        for denied in &list.denied {
            table.add_row([
                denied.serial.as_str(),
                &time_text(denied.denied_ms),
                &denied.reason,
            ]);
        }
        table.to_string()
    })
}
