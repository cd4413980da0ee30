//! The settings files of a test cluster's processes.

use std::collections::BTreeSet;

use parlance_proto::tls::TlsFiles;
use toml::{Table, Value};

use super::Cluster;

/// A node's file.
pub(super) fn node(cluster: &Cluster, node_id: u64, tls: &TlsFiles) -> Table {
    let address = &cluster.address;
    // The first ones by number, and whoever came in their place.
    let known: BTreeSet<u64> = (1..=cluster.spec.nodes)
        .chain(cluster.nodes.keys().copied())
        .collect();
    let others = known.into_iter().filter(|other| *other != node_id);
    let seeds: Vec<Value> = others.map(|other| text(address.link(other))).collect();
    let mut settings = Table::new();
    settings.insert(
        "node_id".into(),
        Value::Integer(i64::try_from(node_id).unwrap_or_default()),
    );
    settings.insert("data_dir".into(), text(cluster.data_dir(node_id).display()));
    settings.insert("raft_listen".into(), text(address.raft(node_id)));
    settings.insert(
        "raft_advertise".into(),
        text(cluster.raft_advertise(node_id)),
    );
    settings.insert("link_listen".into(), text(address.link(node_id)));
    settings.insert("ops_listen".into(), text(address.node_ops(node_id)));
    settings.insert("seeds".into(), Value::Array(seeds));
    settings.insert("tls".into(), tls_table(tls));
    merge(&mut settings, &cluster.spec.node_settings);
    settings
}

/// A gateway's file.
pub(super) fn gateway(cluster: &Cluster, number: usize, tls: &TlsFiles) -> Table {
    let address = &cluster.address;
    let nodes: Vec<Value> = (1..=cluster.spec.nodes)
        .map(|node_id| text(cluster.link_advertise(node_id)))
        .collect();
    let mut settings = Table::new();
    settings.insert("gateway_id".into(), text(format!("gateway-{number}")));
    let mut listener = Table::new();
    listener.insert("address".into(), text(address.gateway(number)));
    let listeners = vec![toml::Value::Table(listener)];
    settings.insert("listener".into(), toml::Value::Array(listeners));
    settings.insert("ops_listen".into(), text(address.gateway_ops(number)));
    settings.insert("nodes".into(), Value::Array(nodes));
    settings.insert("tls".into(), tls_table(tls));
    // All clients of a test come from one address.
    let mut limits = Table::new();
    for rate in [
        "connections_per_address",
        "logins_per_address",
        "requests_per_second",
    ] {
        limits.insert(rate.into(), Value::Integer(1_000_000));
    }
    // Nobody looks whether it is ready.
    limits.insert("lame_duck_ms".into(), Value::Integer(0));
    settings.insert("limits".into(), Value::Table(limits));
    merge(&mut settings, &cluster.spec.gateway_settings);
    settings
}

fn tls_table(tls: &TlsFiles) -> Value {
    let files = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)];
    Value::Table(
        files
            .map(|(name, path)| (name.to_owned(), text(path.display())))
            .into_iter()
            .collect(),
    )
}

fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

/// Lays `over` over `base`, table by table.
fn merge(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_what_is_not_overlaid() {
        let mut base: Table = toml::from_str("a = 1\n[raft]\nx = 1\ny = 2").unwrap();
        merge(&mut base, &toml::from_str("b = 2\n[raft]\ny = 3").unwrap());
        assert_eq!(
            base,
            toml::from_str::<Table>("a = 1\nb = 2\n[raft]\nx = 1\ny = 3").unwrap()
        );
    }
}
