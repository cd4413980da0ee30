//! Dev clusters that run now: a context file each, there from ready to stop.
//!
//! A killed dev cluster leaves its file behind; nobody answers at its addresses, so it is left out.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::context::{ClusterContext, DEV, Resolved};
use crate::files;

/// A dev cluster on this machine answers in far less.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);

/// The folder of the running ones.
pub struct Running {
    folder: Option<PathBuf>,
}

/// A context file of a running dev cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningFile {
    pub path: PathBuf,
    pub context: ClusterContext,
}

impl RunningFile {
    pub(super) fn resolved(&self) -> Resolved {
        Resolved {
            name: DEV.to_owned(),
            context: self.context.clone(),
        }
    }
}

impl Running {
    /// `parlance/running` in the XDG runtime folder, else in the state folder; none run if there is no home folder.
    pub fn in_default_folder() -> Self {
        let home = files::runtime_home().or_else(|| files::state_home().ok());
        Self {
            folder: home.map(|home| home.join("running")),
        }
    }

    /// The ones that answer.
    pub fn alive(&self) -> Vec<RunningFile> {
        let Some(entries) = self
            .folder
            .as_deref()
            .and_then(|folder| std::fs::read_dir(folder).ok())
        else {
            return Vec::new();
        };
        let mut alive: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "toml")
            })
            .filter_map(|path| {
                let context: ClusterContext =
                    toml::from_str(&std::fs::read_to_string(&path).ok()?).ok()?;
                answers(&context).then_some(RunningFile { path, context })
            })
            .collect();
        alive.sort_by(|a, b| a.path.cmp(&b.path));
        alive
    }

    /// Registers this process; dropping the guard takes it back.
    pub fn register(&self, context: &ClusterContext) -> anyhow::Result<Registration> {
        let folder = self
            .folder
            .as_deref()
            .context("find a folder for the context: set HOME or XDG_RUNTIME_DIR")?;
        // A run of the same cluster that was killed left its file, and its addresses answer again.
        for left in self.alive() {
            if left.context.nodes == context.nodes {
                let _ = std::fs::remove_file(&left.path);
            }
        }
        let path = folder.join(format!("dev-{}.toml", std::process::id()));
        let text = toml::to_string(context).context("write the context as TOML")?;
        files::write_private(&path, text.as_bytes())?;
        Ok(Registration { path })
    }
}

fn answers(context: &ClusterContext) -> bool {
    context.nodes.iter().any(|node| {
        node.to_socket_addrs().is_ok_and(|mut addresses| {
            addresses.any(|a| TcpStream::connect_timeout(&a, PROBE_TIMEOUT).is_ok())
        })
    })
}

/// Keeps a context file there while it lives.
pub struct Registration {
    path: PathBuf,
}

impl Registration {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // A file that stays behind is seen to be dead by its addresses.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_found_while_it_is_registered_and_answers() {
        let dir = tempfile::tempdir().unwrap();
        let running = Running {
            folder: Some(dir.path().join("running")),
        };
        assert_eq!(running.alive(), []);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nodes = vec![listener.local_addr().unwrap().to_string()];
        let context = ClusterContext {
            nodes,
            app: Some("demo".into()),
            ..Default::default()
        };
        let registration = running.register(&context).unwrap();
        assert_eq!(
            running.alive().first().map(|r| r.context.clone()),
            Some(context.clone())
        );
        drop(registration);
        assert_eq!(running.alive(), []);

        let killed = running.folder.as_ref().unwrap().join("dev-1.toml");
        std::fs::write(&killed, toml::to_string(&context).unwrap()).unwrap();
        let left_behind = running.register(&context).unwrap();
        assert_eq!(running.alive().len(), 1, "the same cluster is there once");
        drop(listener);
        assert_eq!(running.alive(), []);
        drop(left_behind);
    }
}
