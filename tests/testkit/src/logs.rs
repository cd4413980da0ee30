//! The processes' own words: a panic or an ERROR line that nobody expected fails a test.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cluster::Cluster;

/// Lines that a run allows: by process, or by what they contain.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// Processes that were damaged on purpose, as in `node-2`.
    pub processes: Vec<String>,
    pub texts: Vec<String>,
}

/// All lines of all processes that should not be there.
pub fn unexpected(cluster: &Cluster, allowed: &Allowed) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for process in cluster.processes().filter(|process| process.log().exists()) {
        let text = read(process.log())?;
        let damaged = allowed.processes.contains(&process.name);
        let bad = text
            .lines()
            .filter(|line| is_panic(line) || (is_error(line) && !damaged));
        let bad = bad.filter(|line| {
            !allowed
                .texts
                .iter()
                .any(|text| line.contains(text.as_str()))
        });
        found.extend(bad.map(|line| format!("{}: {line}", process.name)));
    }
    Ok(found)
}

/// The text of a log, without colours.
pub fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(without_colours(&String::from_utf8_lossy(&bytes)))
}

fn is_panic(line: &str) -> bool {
    line.contains("panicked at")
        || line.contains("stack overflow")
        || line.contains("fatal runtime error")
}

/// The level stands behind the time: `2026-01-01T00:00:00Z ERROR target: text`, or in JSON.
fn is_error(line: &str) -> bool {
    line.split_whitespace().take(2).any(|word| word == "ERROR")
        || line.contains(r#""level":"ERROR""#)
}

fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // An escape sequence ends with its first letter.
            let _ = characters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_seen_through_colours_and_in_json_and_only_there() {
        let line = without_colours(
            "\u{1b}[2m2026-01-01T00:00:00Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m node: disk failed",
        );
        assert!(is_error(&line), "{line}");
        assert!(is_error(r#"{"timestamp":"x","level":"ERROR","fields":{}}"#));
        assert!(!is_error(
            "2026-01-01T00:00:00Z  INFO client: answered ERROR to the caller"
        ));
        assert!(is_panic("thread 'main' panicked at src/main.rs:1:1:"));
    }
}
