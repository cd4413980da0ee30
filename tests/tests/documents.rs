//! The documents keep up with the code: every error code, metric, setting and close code has its row, and every test that is
//! named is there.

#![allow(clippy::panic, reason = "a test may fail")]

use std::collections::BTreeMap;
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
fn close_codes_are_the_same_in_the_document_the_gateway_and_the_sdk() {
    let mut documented = BTreeMap::new();
    for line in between("docs/protocol.md", "## Close codes", "\n\nA connection") {
        let mut cells = line.split('|').map(str::trim).skip(1);
        if let Some(code) = cells.next().and_then(|code| code.parse::<u16>().ok()) {
            let name = cells.next().and_then(|cell| cell.split('`').nth(1));
            documented.insert(code, name.unwrap_or("normal").to_owned());
        }
    }
    let names = between("gateway/src/session/close.rs", "fn name(", "\n    }\n");
    let names: BTreeMap<_, _> = names
        .filter_map(|line| {
            let (reason, name) = line.trim().strip_prefix("Self::")?.split_once(" => ")?;
            Some((reason.to_owned(), name.split('"').nth(1)?.to_owned()))
        })
        .collect();
    let mut used = BTreeMap::new();
    for line in between(
        "gateway/src/endpoint/native/close.rs",
        "pub fn code(",
        "\n}",
    ) {
        if let Some((reasons, code)) = line.trim().trim_end_matches(',').split_once(" => ") {
            let first = reasons.split(" | ").next().unwrap();
            let name = names[first.trim_start_matches("CloseReason::")].as_str();
            let name = if name == "gone" { "normal" } else { name };
            used.insert(code.parse().unwrap(), name.to_owned());
        }
    }
    let mut known = BTreeMap::new();
    for line in between(
        "sdk/packages/client/src/codes.ts",
        "const CloseCode = {",
        "\n}",
    ) {
        if let Some((name, code)) = line.trim().trim_end_matches(',').split_once(": ") {
            let upper = |c: char| match c.is_ascii_uppercase() {
                true => format!("_{}", c.to_ascii_lowercase()),
                false => c.to_string(),
            };
            known.insert(code.parse().unwrap(), name.chars().map(upper).collect());
        }
    }
    // What WebSocket libraries tell when there was no close frame.
    assert_eq!(known.remove(&1006).as_deref(), Some("abnormal"));
    assert!(used.len() > 10, "the close codes were not found: {used:?}");
    assert_eq!(documented, used, "the document and the gateway");
    assert_eq!(known, used, "the SDK and the gateway");
}

/// The lines of a file from one text to another.
fn between(file: &str, from: &str, to: &str) -> std::vec::IntoIter<String> {
    let text = read(file);
    let (_, text) = text
        .split_once(from)
        .unwrap_or_else(|| panic!("{file} has no {from}"));
    let (text, _) = text
        .split_once(to)
        .unwrap_or_else(|| panic!("{file} does not end its {from}"));
    text.lines()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// In the last column of a row: files, and behind each the names of tests in it.
#[test]
fn every_test_that_shows_a_finding_closed_is_there() {
    let text = read("docs/reliability.md");
    let rows = text.lines().filter_map(|line| {
        let row = line.strip_prefix('|')?.strip_suffix('|')?;
        row.rsplit('|').next()
    });
    let (mut found, mut sdk, mut missing) = (0, 0, Vec::new());
    for cell in rows {
        let mut source: Option<(&str, String)> = None;
        for quoted in cell.split('`').skip(1).step_by(2) {
            let is_path = quoted.contains('/') && !quoted.contains(' ');
            if is_path && (quoted.ends_with(".rs") || quoted.ends_with(".ts")) {
                source = Some((quoted, read(quoted)));
                continue;
            }
            let Some((path, source)) = source.as_ref().filter(|_| !is_path) else {
                continue;
            };
            let there = if path.ends_with(".ts") {
                sdk += 1;
                has_sdk_test(source, quoted)
            } else if quoted.contains('_') && !quoted.contains([' ', '.']) {
                found += 1;
                source.contains(&format!("fn {quoted}("))
            } else {
                continue;
            };
            if !there {
                missing.push(format!("{path} {quoted}"));
            }
        }
    }
    assert!(found > 50, "the tests were not found: {found}");
    assert!(sdk > 50, "the tests of the SDK were not found: {sdk}");
    assert!(missing.is_empty(), "not there: {missing:#?}");
}

/// A test whose name has this text; `…` stands for what the name has from a variable.
fn has_sdk_test(source: &str, name: &str) -> bool {
    let parts: Vec<&str> = name.split('…').map(str::trim).collect();
    source.lines().any(|line| {
        let named = line.trim_start().strip_prefix("test(");
        let named = named.or_else(|| line.trim_start().strip_prefix("it("));
        named.is_some_and(|named| parts.iter().all(|part| named.contains(part)))
    })
}
