//! Contexts: which cluster a command speaks to, with which certificates, and for which app.
//!
//! Kept contexts are in one file that people may edit; a running `parlance dev` adds a file of its own for as long
//! as it runs. A chosen one wins over a current one, a current one over a running dev cluster.

mod running;
mod store;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use parlance_proto::ids::AppId;
use parlance_proto::tls::TlsFiles;
use serde::{Deserialize, Serialize};

use crate::args::Globals;
use crate::ca::operator_files;
use crate::exit::not_possible;

pub use running::{Running, RunningFile};
pub use store::Store;

/// The name that a running dev cluster goes by.
pub const DEV: &str = "dev";

/// One cluster, as this machine sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterContext {
    /// Admin addresses of nodes, HOST:PORT; any one that answers is enough.
    pub nodes: Vec<String>,
    /// Addresses of gateways, as in ws://HOST:PORT/ws.
    pub gateways: Vec<String>,
    /// The app that commands use when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// For wss:// gateways: who signed their certificate; the system's authorities if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_ca: Option<PathBuf>,
    /// The operator's certificate; only commands that ask nodes need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
}

/// A context and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its name; empty if it is made of flags alone.
    pub name: String,
    pub context: ClusterContext,
}

impl ClusterContext {
    /// The admin certificates, or what to do about it.
    pub fn tls(&self) -> anyhow::Result<&TlsFiles> {
        self.tls.as_ref().ok_or_else(|| {
            not_possible("this context has no admin certificate: give --tls-dir, or add one with `parlance context add`")
        })
    }

    /// The app named, else the context's.
    pub fn app(&self, named: Option<&AppId>) -> anyhow::Result<AppId> {
        match (named, &self.app) {
            (Some(app), _) => Ok(app.clone()),
            (None, Some(app)) => AppId::new(app).map_err(|e| not_possible(e.to_string())),
            (None, None) => Err(not_possible(
                "no app is named, and the context has none: give --app",
            )),
        }
    }
}

/// The context in effect, with the flags laid over it.
pub fn resolve(globals: &Globals) -> anyhow::Result<Resolved> {
    let running = Running::in_default_folder();
    resolve_in(globals, &Store::load_default()?, || running.alive())
}

fn resolve_in(
    globals: &Globals,
    store: &Store,
    alive: impl FnOnce() -> Vec<RunningFile>,
) -> anyhow::Result<Resolved> {
    let mut resolved = match &globals.context {
        Some(file) if file.contains('/') || file.ends_with(".toml") => from_file(Path::new(file))?,
        Some(name) => by_name(name, store, alive)?,
        None => match &store.current {
            Some(name) => by_name(name, store, alive)?,
            None => match alive().as_slice() {
                [one] => one.resolved(),
                // Flags may say all that is needed.
                [] if !globals.server.is_empty() || !globals.via.is_empty() => Resolved {
                    name: String::new(),
                    context: ClusterContext::default(),
                },
                [] => {
                    return Err(not_possible(
                        "no cluster is chosen and no dev cluster runs: start `parlance dev`, \
                         choose a context with --context, or add one with `parlance context add`",
                    ));
                }
                several => {
                    let files: Vec<_> = several
                        .iter()
                        .map(|r| r.path.display().to_string())
                        .collect();
                    return Err(not_possible(format!(
                        "several dev clusters run: choose one with --context {}",
                        files.join(" or --context ")
                    )));
                }
            },
        },
    };
    let context = &mut resolved.context;
    if !globals.server.is_empty() {
        context.nodes.clone_from(&globals.server);
    }
    if !globals.via.is_empty() {
        context.gateways.clone_from(&globals.via);
    }
    if let Some(dir) = &globals.tls_dir {
        context.tls = Some(operator_files(dir)?);
    }
    Ok(resolved)
}

fn by_name(
    name: &str,
    store: &Store,
    alive: impl FnOnce() -> Vec<RunningFile>,
) -> anyhow::Result<Resolved> {
    if let Some(context) = store.contexts.get(name) {
        return Ok(Resolved {
            name: name.to_owned(),
            context: context.clone(),
        });
    }
    if name == DEV
        && let Some(running) = alive().first()
    {
        return Ok(running.resolved());
    }
    let mut known: Vec<_> = store.contexts.keys().map(String::as_str).collect();
    known.sort_unstable();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    Err(not_possible(format!(
        "there is no context {name:?}; known are: {known}"
    )))
}

fn from_file(path: &Path) -> anyhow::Result<Resolved> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read context file {}", path.display()))?;
    let context =
        toml::from_str(&text).with_context(|| format!("parse context file {}", path.display()))?;
    Ok(Resolved {
        name: path.display().to_string(),
        context,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(current: Option<&str>) -> Store {
        let prod = ClusterContext {
            nodes: vec!["prod:1".into()],
            ..Default::default()
        };
        Store {
            current: current.map(str::to_owned),
            contexts: [("prod".to_owned(), prod)].into(),
        }
    }

    fn dev() -> Vec<RunningFile> {
        let context = ClusterContext {
            nodes: vec!["dev:1".into()],
            app: Some("demo".into()),
            ..Default::default()
        };
        vec![RunningFile {
            path: "/run/dev-1.toml".into(),
            context,
        }]
    }

    fn nodes(
        globals: &Globals,
        store: &Store,
        alive: Vec<RunningFile>,
    ) -> anyhow::Result<Vec<String>> {
        resolve_in(globals, store, || alive).map(|r| r.context.nodes)
    }

    #[test]
    fn a_named_context_wins_over_the_current_one_and_that_over_a_running_dev_cluster() {
        let none = Globals::default();
        let named = |name: &str| Globals {
            context: Some(name.to_owned()),
            ..Default::default()
        };
        assert_eq!(nodes(&none, &store(None), dev()).unwrap(), ["dev:1"]);
        assert_eq!(
            nodes(&none, &store(Some("prod")), dev()).unwrap(),
            ["prod:1"]
        );
        assert_eq!(
            nodes(&named("dev"), &store(Some("prod")), dev()).unwrap(),
            ["dev:1"]
        );
        assert_eq!(
            nodes(&named("prod"), &store(None), dev()).unwrap(),
            ["prod:1"]
        );
        let missing = nodes(&named("prd"), &store(None), dev()).unwrap_err();
        assert!(missing.to_string().contains("known are: prod"), "{missing}");
        assert_eq!(
            crate::exit::code_of(&nodes(&none, &store(None), vec![]).unwrap_err()),
            2
        );
        let two = [dev(), dev()].concat();
        assert!(
            nodes(&none, &store(None), two)
                .unwrap_err()
                .to_string()
                .contains("several")
        );
    }

    #[test]
    fn flags_are_laid_over_the_context_and_are_enough_alone() {
        let globals = Globals {
            server: vec!["flag:1".into()],
            tls_dir: Some("/ca".into()),
            ..Default::default()
        };
        let resolved = resolve_in(&globals, &store(Some("prod")), Vec::new).unwrap();
        assert_eq!(resolved.context.nodes, ["flag:1"]);
        assert_eq!(
            resolved.context.tls.unwrap().cert,
            Path::new("/ca/admin.pem")
        );
        assert_eq!(nodes(&globals, &store(None), vec![]).unwrap(), ["flag:1"]);
    }

    #[test]
    fn a_context_file_can_be_named_and_unknown_keys_in_it_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "nodes = [\"file:1\"]\ngateways = []\n").unwrap();
        let globals = Globals {
            context: Some(path.display().to_string()),
            ..Default::default()
        };
        assert_eq!(
            nodes(&globals, &store(Some("prod")), vec![]).unwrap(),
            ["file:1"]
        );
        std::fs::write(&path, "node = [\"file:1\"]\n").unwrap();
        let error = format!("{:#}", nodes(&globals, &store(None), vec![]).unwrap_err());
        assert!(error.contains("unknown field `node`"), "{error}");
    }
}
