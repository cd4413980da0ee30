//! `parlance ca create` and `parlance ca issue`.

use std::path::{Path, PathBuf};

use parlance_proto::tls::Role;
use serde::Serialize;

use crate::args::{CaCommand, IssueCommand};
use crate::ca::{self, Authority};
use crate::commands::Session;
use crate::output::say;

#[derive(Serialize)]
struct Written {
    cert: PathBuf,
    key: PathBuf,
}

pub fn run(session: &Session, command: CaCommand) -> anyhow::Result<()> {
    let written = match command {
        CaCommand::Create { dir } => {
            Authority::create(&dir)?;
            say("made an authority: keep its key off the servers, they need only its certificate");
            Written {
                cert: ca::ca_cert(&dir),
                key: ca::ca_key(&dir),
            }
        }
        CaCommand::Issue(issue) => {
            let (role, common) = match issue {
                IssueCommand::Node { id: 0, .. } => {
                    return Err(crate::exit::not_possible("a node's id is above 0"));
                }
                IssueCommand::Node { id, common } => (Role::Node(id), common),
                IssueCommand::Gateway { common } => (Role::Gateway, common),
                IssueCommand::Admin { common } => (Role::Admin, common),
            };
            let files = Authority::open(&common.dir)?.issue(role, common.valid)?;
            Written {
                cert: files.cert,
                key: files.key,
            }
        }
    };
    let shown = |path: &Path| path.display().to_string();
    session.output.print(&written, |_, w| {
        format!("{}\n{}", shown(&w.cert), shown(&w.key))
    })
}
