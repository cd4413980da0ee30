//! Limits that a swarm's nodes have: what seldom happens with the usual ones happens often with others.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use toml::{Table, Value};

/// Of each setting one value, by the seed; the first is the usual one of these tests. Nodes take any of them with any other.
const LIMITS: [(&str, &str, &[i64]); 7] = [
    ("raft", "append_window", &[2, 1, 16]),
    ("raft", "snapshot_entries", &[100, 200]),
    ("raft", "keep_entries", &[10, 0, 100]),
    ("raft", "log_entries_max", &[200, 400, 2000]),
    ("raft", "log_tail_bytes", &[32 << 20, 64 << 10]),
    ("raft", "snapshots_at_once", &[2, 1]),
    ("proposer", "entry_commands_max", &[512, 8]),
];
const LIMITS_SEED: u64 = 0x006c_696d_6974;

/// Sets them.
pub(super) fn draw(seed: u64, settings: &mut Table) {
    let rng = &mut StdRng::seed_from_u64(seed ^ LIMITS_SEED);
    for (section, name, values) in LIMITS {
        let drawn = values.choose(rng).copied().map(Value::Integer);
        let section = settings
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        if let (Value::Table(section), Some(drawn)) = (section, drawn) {
            section.insert(name.to_owned(), drawn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_its_limits_and_keeps_other_settings() {
        let of = |seed| {
            let mut settings: Table = toml::from_str("[raft]\nheartbeat_ms = 150").unwrap();
            draw(seed, &mut settings);
            settings
        };
        assert_eq!(of(7), of(7));
        assert!((1..20).any(|seed| of(seed) != of(7)));
        let raft = of(7).get("raft").cloned().unwrap();
        assert_eq!(raft.get("heartbeat_ms"), Some(&Value::Integer(150)));
    }
}
