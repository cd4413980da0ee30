//! The settings files of a cluster that is started for a run.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use parlance_proto::tls::TlsFiles;
use toml::{Table, Value};

use super::cluster::NodeProcess;
use crate::exit::not_possible;

/// A node's file; `over` is laid over it.
pub(super) fn node(
    dir: &Path,
    node: &NodeProcess,
    all: &[NodeProcess],
    tls: &TlsFiles,
    over: &[String],
) -> anyhow::Result<String> {
    let seeds = all
        .iter()
        .filter(|other| other.id != node.id)
        .map(|other| text(other.link));
    let mut table = Table::new();
    table.insert("node_id".into(), Value::Integer(node.id.cast_signed()));
    table.insert(
        "data_dir".into(),
        text(dir.join(format!("data-{}", node.id)).display()),
    );
    table.insert("raft_listen".into(), text(node.raft));
    table.insert("link_listen".into(), text(node.link));
    table.insert("seeds".into(), Value::Array(seeds.collect()));
    finish(table, tls, over)
}

/// A gateway's file; `over` is laid over it.
pub(super) fn gateway(
    id: &str,
    listen: SocketAddr,
    nodes: &[NodeProcess],
    tls: &TlsFiles,
    over: &[String],
) -> anyhow::Result<String> {
    let mut table = Table::new();
    table.insert("gateway_id".into(), text(id));
    let listener = Table::from_iter([("address".to_owned(), text(listen))]);
    table.insert("listener".into(), Value::Array(vec![listener.into()]));
    table.insert(
        "nodes".into(),
        Value::Array(nodes.iter().map(|node| text(node.link)).collect()),
    );
    // All clients of a run come from one address, and may be one user's.
    let limits = [
        "connections_per_address",
        "logins_per_address",
        "sessions_per_user_max",
        "requests_per_second",
    ];
    let limits = limits.map(|name| (name.to_owned(), Value::Integer(1_000_000)));
    let mut limits = Table::from_iter(limits);
    limits.insert("lame_duck_ms".to_owned(), Value::Integer(0));
    table.insert("limits".into(), Value::Table(limits));
    finish(table, tls, over)
}

fn finish(mut table: Table, tls: &TlsFiles, over: &[String]) -> anyhow::Result<String> {
    let files = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)];
    let files = files.map(|(name, path)| (name.to_owned(), text(path.display())));
    table.insert("tls".into(), Value::Table(files.into_iter().collect()));
    for setting in over {
        let setting: Table = toml::from_str(setting)
            .map_err(|e| not_possible(format!("{setting:?} is not TOML: {}", e.message())))?;
        merge(&mut table, setting);
    }
    toml::to_string(&table).context("write settings")
}

fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_laid_over_table_by_table() {
        let tls = TlsFiles {
            ca: "a".into(),
            cert: "b".into(),
            key: "c".into(),
        };
        let over = [
            "limits.drain_ms = 5".to_owned(),
            "limits.frame_bytes_max = 6".to_owned(),
        ];
        let file = gateway("g", "127.0.0.1:1".parse().unwrap(), &[], &tls, &over).unwrap();
        let table: Table = toml::from_str(&file).unwrap();
        for (name, value) in [
            ("drain_ms", 5),
            ("frame_bytes_max", 6),
            ("logins_per_address", 1_000_000),
        ] {
            assert_eq!(table["limits"][name].as_integer(), Some(value));
        }
        assert_eq!(table["tls"]["key"].as_str(), Some("c"));
        assert!(
            gateway(
                "g",
                "127.0.0.1:1".parse().unwrap(),
                &[],
                &tls,
                &["x".to_owned()]
            )
            .is_err()
        );
    }
}
