//! `parlance certificate`: those that the cluster denies although they are good.

mod allow;
mod deny;
mod list;

use std::path::Path;

use parlance_proto::tls::Serial;

use crate::args::CertificateCommand;
use crate::ca;
use crate::commands::Session;
use crate::exit::not_possible;

pub async fn run(session: &Session, command: CertificateCommand) -> anyhow::Result<()> {
    match command {
        CertificateCommand::Deny {
            certificate,
            reason,
            although_used,
        } => {
            let serial = serial(&certificate)?;
            deny::run(session, &serial, reason, although_used).await
        }
        CertificateCommand::Allow { certificate } => {
            allow::run(session, &serial(&certificate)?).await
        }
        CertificateCommand::List => list::run(session).await,
    }
}

/// A serial number, or that of the certificate in a file.
fn serial(text: &str) -> anyhow::Result<Serial> {
    if Path::new(text).is_file() {
        return ca::read_certificate(Path::new(text));
    }
    text.parse()
        .map_err(|e| not_possible(format!("{text:?} is no file, and {e}")))
}
