//! The file of kept contexts: `parlance/contexts.toml` in the XDG config folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::context::ClusterContext;
use crate::files;

/// All kept contexts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// The one that commands use when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    pub contexts: BTreeMap<String, ClusterContext>,
}

impl Store {
    /// Where it is kept.
    pub fn path() -> anyhow::Result<PathBuf> {
        Ok(files::config_home()?.join("contexts.toml"))
    }

    /// Reads it; a missing file is an empty store.
    pub fn load_default() -> anyhow::Result<Self> {
        let path = Self::path()?;
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("parse {}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes it in one step: a reader sees the old file or the new one.
    pub fn save_default(&self) -> anyhow::Result<()> {
        let text = toml::to_string(self).context("write contexts as TOML")?;
        files::write_private(&Self::path()?, text.as_bytes())
    }
}
