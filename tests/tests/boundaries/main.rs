//! The source tree, tidy: who may use what, a header in every file, nothing of anybody's machine.

mod code_map;

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files that git knows or would take, below some folders.
fn files(ending: &str) -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let names = listed
        .map(|said| String::from_utf8_lossy(&said.stdout).into_owned())
        .unwrap_or_default();
    let wanted = names.lines().filter(|name| name.ends_with(ending));
    wanted
        .filter_map(|name| {
            Some((
                name.to_owned(),
                std::fs::read_to_string(root().join(name)).ok()?,
            ))
        })
        .collect()
}

/// The lines of a file without its tests and comments. What is declared for tests in one line is left out; a test module
/// with a body ends the file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
    let mut kept = Vec::new();
    let mut rest = lines.into_iter().peekable();
    while let Some((number, line)) = rest.next() {
        if line.starts_with("#[cfg(test)]") {
            if rest.peek().is_some_and(|(_, next)| next.ends_with(';')) {
                rest.next();
                continue;
            }
            break;
        }
        if !line.trim_start().starts_with("//") {
            kept.push((number, line));
        }
    }
    kept.into_iter()
}

/// Whether a line uses a crate or module by this name, and not a longer one or in a text in quotes.
fn uses(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let quoted = line[..at].matches('"').count() % 2 == 1;
        !quoted
            && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
            && after.starts_with("::")
    })
}

/// Who (by path prefix) may use a name; everybody else in the folder named may not.
const RULES: &[(&str, &str, &[&str])] = &[
    ("openraft", "node/src/", &["node/src/raft/"]),
    ("quinn", "node/src/", &["node/src/raft/"]),
    (
        "rocksdb",
        "node/src/",
        &[
            "node/src/store/",
            "node/src/raft/log_",
            "node/src/raft/group_commit",
        ],
    ),
    ("parlance_node", "gateway/src/", &[]),
    ("openraft", "gateway/src/", &[]),
    ("rocksdb", "gateway/src/", &[]),
    ("parlance_gateway", "node/src/", &[]),
    ("tokio_tungstenite", "node/src/", &[]),
    ("crate::apply", "node/src/raft/", &[]),
    ("crate::shard", "node/src/raft/", &[]),
    ("parlance_client", "node/src/", &[]),
    ("parlance_client", "gateway/src/", &[]),
    ("parlance_node", "tls/src/", &[]),
    ("parlance_gateway", "tls/src/", &[]),
    ("parlance_node", "sdk/rust/src/", &[]),
    ("parlance_gateway", "sdk/rust/src/", &[]),
    ("parlance_node", "tests/src/", &[]),
    ("parlance_gateway", "tests/src/", &[]),
    ("parlance_node", "tests/testkit/src/", &[]),
    ("parlance_gateway", "tests/testkit/src/", &[]),
    ("openraft", "cli/src/", &[]),
    ("rocksdb", "cli/src/", &[]),
];

/// Deterministic code: no tasks, no clock, no randomness, no other module's machinery.
const PURE: &[(&str, &[&str])] = &[
    (
        "node/src/apply/",
        &["tokio", "openraft", "rand", "Instant", "SystemTime", "Utc"],
    ),
    (
        "node/src/meta/apply",
        // It may tell others of a change (tokio::sync::watch), but wait for nothing.
        &[
            "tokio::time",
            "tokio::task",
            "openraft",
            "rand",
            "Instant",
            "SystemTime",
        ],
    ),
    ("proto/src/", &["tokio", "rand", "Instant", "SystemTime"]),
];

#[test]
fn modules_use_only_what_their_place_allows() {
    let mut faults = Vec::new();
    for (name, text) in files(".rs") {
        for (line_number, line) in code(&text) {
            for (used, inside, allowed) in RULES {
                let applies = name.starts_with(inside)
                    && !allowed.iter().any(|prefix| name.starts_with(prefix));
                if applies && uses(line, used) {
                    faults.push(format!("{name}:{}: uses {used}", line_number + 1));
                }
            }
            for (inside, banned) in PURE {
                for used in banned
                    .iter()
                    .filter(|used| name.starts_with(inside) && uses(line, used))
                {
                    faults.push(format!("{name}:{}: uses {used}", line_number + 1));
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "boundaries are crossed:\n{}",
        faults.join("\n")
    );
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let files = files(".rs");
    assert!(files.len() > 20, "the file list is not the repository's");
    let silent: Vec<&str> = files
        .iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(silent.is_empty(), "no `//!` header: {silent:?}");
}

#[test]
fn the_dependency_arrows_point_one_way() {
    let banned = [
        (
            "proto/Cargo.toml",
            &["parlance-node", "parlance-gateway", "parlance-tests"][..],
        ),
        (
            "node/Cargo.toml",
            &["parlance-gateway", "parlance-tests", "tungstenite"],
        ),
        (
            "gateway/Cargo.toml",
            &["parlance-node", "parlance-tests", "openraft", "rocksdb"],
        ),
    ];
    for (manifest, names) in banned {
        let text = std::fs::read_to_string(root().join(manifest)).expect(manifest);
        for name in names {
            assert!(
                !text.lines().any(|line| line.trim_start().starts_with(name)),
                "{manifest} depends on {name}"
            );
        }
    }
}

#[test]
fn nothing_of_anybodys_machine_is_in_the_tree() {
    // Spelled in two parts, so that this file does not find itself.
    let banned: Vec<String> = [
        ("/ro", "ot/"),
        ("/wo", "rk/"),
        ("/ho", "me/"),
        ("/Us", "ers/"),
        ("npm", "mirror"),
        ("artifac", "tory"),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    let mut faults = Vec::new();
    for ending in [
        ".rs", ".toml", ".md", ".proto", ".ts", ".json", ".yaml", ".yml", "Makefile", ".lock",
        ".html", ".js",
    ] {
        for (name, text) in files(ending) {
            for (number, line) in text.lines().enumerate() {
                let foreign_registry = line.contains("resolved")
                    && line.contains("http")
                    && !line.contains("registry.npmjs.org");
                if foreign_registry || banned.iter().any(|path| line.contains(path.as_str())) {
                    faults.push(format!("{name}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "machine paths or registry hosts:\n{}",
        faults.join("\n")
    );
}

#[test]
fn uses_finds_paths_and_not_longer_names() {
    assert!(uses("use rocksdb::DB;", "rocksdb"));
    assert!(uses("let db: Result<rocksdb::DB, _>", "rocksdb"));
    assert!(!uses("use crate::my_rocksdb::Db;", "rocksdb"));
    assert!(!uses("// about rocksdb only", "rocksdb"));
    assert!(!uses("let filter = \"rocksdb::db=off\";", "rocksdb"));
    assert!(uses("log(\"x\", rocksdb::VERSION)", "rocksdb"));
}
