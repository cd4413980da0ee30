//! `parlance ca status`.

use std::path::Path;

use parlance_proto::tls::Standing;
use serde::Serialize;

use crate::ca::{self, CertificateFile};
use crate::commands::Session;
use crate::output::{Tone, say, time_text};

#[derive(Serialize)]
struct Status {
    certificates: Vec<CertificateFile>,
}

pub(super) fn run(session: &Session, dir: &Path) -> anyhow::Result<()> {
    let certificates = ca::status(dir)?;
    for certificate in &certificates {
        let (who, file) = (&certificate.who, certificate.file.display());
        match certificate.standing {
            Standing::Good => {}
            Standing::EndsSoon(days) => say(format!(
                "warning: {file} of {who} ends in {days} days: renew it"
            )),
            Standing::Ended => say(format!("warning: {file} of {who} has ended: renew it")),
        }
    }
    let status = Status { certificates };
    session.output.print(&status, |output, status| {
        let mut table = output.table(&["WHO", "ENDS", "AUTHORITY", "SERIAL", "FILE"]);
        for shown in &status.certificates {
            let tone = match shown.standing {
                Standing::Good => Tone::Good,
                Standing::EndsSoon(_) | Standing::Ended => Tone::Bad,
            };
            table.add_row(vec![
                shown.who.as_str().into(),
                output.cell(time_text(shown.expires_s.saturating_mul(1000)), tone),
                shown.authority.into(),
                shown.serial.as_str().into(),
                shown.file.display().to_string().into(),
            ]);
        }
        table.to_string()
    })
}
