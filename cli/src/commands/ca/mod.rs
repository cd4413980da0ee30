//! `parlance ca`: the cluster's authority, in a folder of the operator's. No node is asked.

mod status;

use std::path::{Path, PathBuf};

use parlance_proto::tls::{Role, TlsFiles, is_gateway_id};
use serde::Serialize;

use crate::args::{CaCommand, IssueCommand};
use crate::ca::{self, Authority};
use crate::commands::Session;
use crate::exit::not_possible;
use crate::output::say;

#[derive(Serialize)]
struct Written {
    cert: PathBuf,
    key: PathBuf,
}

pub fn run(session: &Session, command: CaCommand) -> anyhow::Result<()> {
    let written = match command {
        CaCommand::Status { dir } => return status::run(session, &dir),
        CaCommand::Rotate { dir } => {
            ca::rotate(&dir)?;
            say(
                "ca.pem has both authorities now: give it to every process before any gets a certificate of the new one",
            );
            Written {
                cert: ca::ca_cert(&dir),
                key: ca::ca_key(&dir),
            }
        }
        CaCommand::Retire { dir } => {
            ca::retire(&dir)?;
            say(
                "ca.pem has the new authority only: give it to every process, once each has a certificate of it",
            );
            Written {
                cert: ca::ca_cert(&dir),
                key: ca::ca_key(&dir),
            }
        }
        CaCommand::Create { dir } => {
            Authority::create(&dir)?;
            say("made an authority: keep its key off the servers, they need only its certificate");
            Written {
                cert: ca::ca_cert(&dir),
                key: ca::ca_key(&dir),
            }
        }
        CaCommand::Issue(issue) => {
            let files = issue_files(issue)?;
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

fn issue_files(command: IssueCommand) -> anyhow::Result<TlsFiles> {
    let (role, common) = match command {
        IssueCommand::Node { id: 0, .. } => {
            return Err(not_possible("a node's id is above 0"));
        }
        IssueCommand::Node { id, common } => (Role::Node(id), common),
        IssueCommand::Gateway { id, .. } if !is_gateway_id(&id) => {
            return Err(not_possible(
                "a gateway's id is 1 to 55 of a-z, 0-9 and - inside",
            ));
        }
        IssueCommand::Gateway { id, common } => (Role::Gateway(id), common),
        IssueCommand::Admin { name: None, common } => (Role::Admin, common),
        IssueCommand::Admin {
            name: Some(name),
            common,
        } => return Authority::open(&common.dir)?.issue_operator(&name, common.valid),
    };
    Authority::open(&common.dir)?.issue(&role, common.valid)
}
