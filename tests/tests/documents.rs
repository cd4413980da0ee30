//! The documents keep up with the code: every error code, metric, setting and close code has its row, and every test that is
//! named is there.

#![allow(clippy::panic, reason = "a test may fail")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Words of a text that begin in some way, without what cannot be part of a name.
fn words<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let separates = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let words = text.split(separates);
    words
        .filter(|w| w.starts_with(prefix) && *w != prefix)
        .collect()
}

fn assert_documented(document: &str, names: &[String]) {
    let text = read(document);
    assert!(!names.is_empty(), "nothing to look for in {document}");
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "not in {document}: {missing:?}");
}

#[test]
fn every_error_code_has_a_row_with_its_number() {
    let proto = read("proto/parlance/common/v1/error.proto");
    let rows: Vec<String> = proto
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.trim().strip_prefix("ERROR_CODE_")?.split_once(" = ")?;
            let number = rest.split(';').next()?;
            Some(format!("| {number} | `{}` |", name.to_lowercase()))
        })
        .filter(|row| !row.contains("`unspecified`"))
        .collect();
    assert!(rows.len() > 10, "the codes were not found: {rows:?}");
    let text = read("docs/errors.md");
    let missing: Vec<&String> = rows
        .iter()
        .filter(|row| !text.contains(row.as_str()))
        .collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
}

#[test]
fn every_metric_has_a_row_and_every_row_a_metric() {
    let sources = [
        "node/src/metrics.rs",
        "node/src/metrics/figures.rs",
        "node/src/raft/metrics.rs",
        "gateway/src/metrics.rs",
        "cli/src/telemetry.rs",
        "tls/src/metrics.rs",
    ]
    .map(read)
    .join("\n");
    let of = |text: &str| -> Vec<String> {
        [
            "parlance_node_",
            "parlance_gateway_",
            "parlance_build_",
            "parlance_certificate_",
        ]
        .iter()
        .flat_map(|prefix| words(text, prefix))
        .map(str::to_owned)
        .collect()
    };
    let known = of(&sources);
    assert_documented("docs/metrics.md", &known);
    let stale: Vec<String> = of(&read("docs/metrics.md"))
        .into_iter()
        .filter(|name| !known.contains(name))
        .collect();
    assert!(
        stale.is_empty(),
        "in docs/metrics.md but nowhere else: {stale:?}"
    );
}

#[test]
fn every_setting_has_a_row() {
    let parts = [
        ("node/src/config.rs", "pub struct Config", ""),
        ("node/src/raft/config.rs", "pub struct RaftConfig", "raft."),
        (
            "node/src/shard/proposer.rs",
            "pub struct ProposerLimits",
            "proposer.",
        ),
        ("gateway/src/config.rs", "pub struct Config", ""),
        (
            "gateway/src/config/limits.rs",
            "pub struct Limits",
            "limits.",
        ),
        ("gateway/src/config.rs", "pub struct Listener ", "listener."),
        (
            "cli/src/serve/settings.rs",
            "pub(super) struct ProcessSettings",
            "",
        ),
    ];
    // Tables, whose fields have rows of their own.
    let tables = ["tls", "raft", "proposer", "limits", "listener"];
    let mut names = Vec::new();
    for (file, head, prefix) in parts {
        let text = read(file);
        let (_, body) = text
            .split_once(head)
            .unwrap_or_else(|| panic!("{file} has no {head}"));
        let (body, _) = body
            .split_once("\n}")
            .unwrap_or_else(|| panic!("{head} does not end"));
        let fields = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
        let fields = fields
            .map(|(name, _)| name)
            .filter(|name| !tables.contains(name));
        names.extend(fields.map(|name| format!("{prefix}{name}")));
    }
    assert!(
        names.len() > 30,
        "the settings were not found: {}",
        names.len()
    );
    assert_documented("docs/configuration.md", &names);
}

#[test]
fn every_close_code_has_a_row() {
    let text = read("docs/protocol.md");
    let source = read("gateway/src/endpoint/native/close.rs");
    let codes: Vec<&str> = source
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("CloseReason::")?
                .split_once(" => ")
        })
        .filter_map(|(_, code)| {
            let code = code.trim_end_matches(',');
            code.parse::<u16>().is_ok().then_some(code)
        })
        .collect();
    assert!(codes.len() > 5, "the close codes were not found");
    for code in codes {
        assert!(
            text.contains(&format!("| {code} |")),
            "{code} is not in docs/protocol.md"
        );
    }
}

/// In the last column of a row: files, and behind each the names of tests in it.
#[test]
fn every_test_that_shows_a_finding_closed_is_there() {
    let text = read("docs/reliability.md");
    let rows = text.lines().filter_map(|line| {
        let row = line.strip_prefix('|')?.strip_suffix('|')?;
        row.rsplit('|').next()
    });
    let (mut found, mut missing) = (0, Vec::new());
    for cell in rows {
        let mut source: Option<(&str, String)> = None;
        for quoted in cell.split('`').skip(1).step_by(2) {
            let is_path = quoted.contains('/') && !quoted.ends_with('/');
            if is_path && (quoted.ends_with(".rs") || quoted.ends_with(".ts")) {
                source = Some((quoted, read(quoted)));
                continue;
            }
            let is_name = quoted.contains('_') && !quoted.contains([' ', '/', '.']);
            let Some((path, source)) = source.as_ref().filter(|_| is_name) else {
                continue;
            };
            found += 1;
            if !source.contains(&format!("fn {quoted}(")) {
                missing.push(format!("{path} {quoted}"));
            }
        }
    }
    assert!(found > 50, "the tests were not found: {found}");
    assert!(missing.is_empty(), "not there: {missing:#?}");
}
