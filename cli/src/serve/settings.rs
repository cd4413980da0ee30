//! Settings of a production process: those of its library, and beside them those that every process has.

use std::net::SocketAddr;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::telemetry::LogFormat;

/// The Raft library says at `info` what we say ourselves, and calls a shard that was told to stop an error.
pub(super) const DEFAULT_LOG_FILTER: &str = "info,openraft=warn,openraft::raft::raft_inner=off";

/// What every process has, on the top level of its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProcessSettings {
    /// Where `/metrics`, `/healthz` and `/readyz` are served, without credentials. Default: nowhere.
    pub ops_listen: Option<SocketAddr>,
    /// `text` or `json`. Default: text.
    pub log_format: LogFormat,
    /// What is logged, as in `info` or `warn,parlance_node::raft=debug`. Default:
    /// `info,openraft=warn,openraft::raft::raft_inner=off`.
    pub log_filter: String,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            ops_listen: None,
            log_format: LogFormat::Text,
            log_filter: DEFAULT_LOG_FILTER.to_owned(),
        }
    }
}

/// Both together, as one table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WithProcess<C> {
    pub part: C,
    pub process: ProcessSettings,
}

impl<C: Serialize> Serialize for WithProcess<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let object = |value: serde_json::Result<Value>| match value {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(S::Error::custom("settings are a table")),
            Err(e) => Err(S::Error::custom(e)),
        };
        let mut both = object(serde_json::to_value(&self.part))?;
        both.extend(object(serde_json::to_value(&self.process))?);
        both.serialize(serializer)
    }
}

impl<'de, C: DeserializeOwned> Deserialize<'de> for WithProcess<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut part = Map::deserialize(deserializer)?;
        let defaults =
            serde_json::to_value(ProcessSettings::default()).map_err(D::Error::custom)?;
        let mut process = Map::new();
        for key in defaults.as_object().into_iter().flat_map(Map::keys) {
            if let Some((key, value)) = part.remove_entry(key) {
                process.insert(key, value);
            }
        }
        Ok(Self {
            part: serde_json::from_value(Value::Object(part)).map_err(D::Error::custom)?,
            process: serde_json::from_value(Value::Object(process)).map_err(D::Error::custom)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        id: u64,
    }

    #[test]
    fn one_table_holds_both_and_nothing_else() {
        let text = r#"{"id":1,"ops_listen":"127.0.0.1:9","log_format":"json"}"#;
        let both: WithProcess<Part> = serde_json::from_str(text).unwrap();
        assert_eq!(
            (both.part.id, both.process.log_format),
            (1, LogFormat::Json)
        );
        let again: WithProcess<Part> =
            serde_json::from_value(serde_json::to_value(&both).unwrap()).unwrap();
        assert_eq!(again, both);
        assert!(
            serde_json::from_str::<WithProcess<Part>>(r#"{"id":1,"log_fromat":"json"}"#).is_err()
        );
    }
}
