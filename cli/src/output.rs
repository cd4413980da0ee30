//! Data goes to stdout, as a table or as JSON; talk goes to stderr.

use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use comfy_table::{Attribute, Cell, Color, Table, presets};
use serde::Serialize;

use crate::args::OutputFormat;

/// Where a command's answer goes.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: OutputFormat,
    colour: bool,
}

/// How a value is meant, for its colour on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Plain,
}

impl Output {
    /// Colours only on a terminal, and not where `NO_COLOR` is set.
    pub fn new(format: OutputFormat) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            format,
            colour: wanted && std::io::stdout().is_terminal(),
        }
    }

    /// Whether programs read the answer.
    pub fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Prints the answer: the value as JSON, or what `table` makes of it.
    pub fn print<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&Self, &T) -> String,
    ) -> anyhow::Result<()> {
        if self.is_json() {
            self.line_json(value)
        } else {
            self.text(&table(self, value))
        }
    }

    /// One line of JSON, flushed: somebody may be waiting for it.
    pub fn line_json<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        self.text(&serde_json::to_string(value).context("write JSON")?)
    }

    /// Text with a line end, flushed.
    pub fn text(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(text.trim_end_matches('\n').as_bytes())
            .context("write to stdout")?;
        stdout.write_all(b"\n").context("write to stdout")?;
        stdout.flush().context("write to stdout")
    }

    /// An empty table with a head.
    pub fn table(&self, head: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let bold = |name: &&str| {
            let cell = Cell::new(name);
            if self.colour {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        };
        table.set_header(head.iter().map(bold));
        if self.colour {
            table.enforce_styling();
        }
        table
    }

    /// A cell with a tone.
    pub fn cell(&self, text: impl ToString, tone: Tone) -> Cell {
        let cell = Cell::new(text);
        match tone {
            Tone::Good if self.colour => cell.fg(Color::Green),
            Tone::Bad if self.colour => cell.fg(Color::Red),
            _ => cell,
        }
    }
}

/// Says something to the person at the terminal. A closed stderr is no error.
pub fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// Asks for a yes on the terminal; without one the answer must come by `--yes`.
pub fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(crate::exit::not_possible(format!(
            "{question}: add --yes, as nobody can be asked here"
        )));
    }
    let _ = write!(std::io::stderr().lock(), "{question}? [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("read the answer")?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(crate::exit::not_possible("not confirmed"))
    }
}

/// The last millisecond of the year 9999.
const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// A time of the protocol as text, UTC, to the millisecond; at least 1970, at most 9999.
pub fn time_text(time_ms: i64) -> String {
    let since_1970 = Duration::from_millis(u64::try_from(time_ms).unwrap_or(0).min(TIME_MS_MAX));
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since_1970).to_string()
}

const UNITS: [(&str, u64); 4] = [
    ("day", 24 * 3600),
    ("hour", 3600),
    ("minute", 60),
    ("second", 1),
];

/// A length of time as text, as in `30 days` and `1 hour 30 minutes`; what is less than a second is left out.
pub fn duration_text(time: Duration) -> String {
    let mut left = time.as_secs();
    let mut parts = Vec::new();
    for (unit, seconds) in UNITS {
        let count = left / seconds;
        left %= seconds;
        match count {
            0 => {}
            1 => parts.push(format!("1 {unit}")),
            _ => parts.push(format!("{count} {unit}s")),
        }
    }
    if parts.is_empty() {
        return "0 seconds".to_owned();
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time_text(1_795_262_399_999), "2026-11-21T11:59:59.999Z");
        assert_eq!(time_text(-1), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn lengths_of_time_are_words() {
        let text = |seconds| duration_text(Duration::from_secs(seconds));
        assert_eq!(text(30 * 24 * 3600), "30 days");
        assert_eq!(text(365 * 24 * 3600), "365 days");
        assert_eq!(text(24 * 3600 + 5400), "1 day 1 hour 30 minutes");
        assert_eq!(text(61), "1 minute 1 second");
        assert_eq!(text(0), "0 seconds");
    }

    #[test]
    fn without_a_terminal_a_destructive_step_needs_yes() {
        assert!(confirm("replace node 2", true).is_ok());
        if !std::io::stdin().is_terminal() {
            assert_eq!(
                crate::exit::code_of(&confirm("replace node 2", false).unwrap_err()),
                2
            );
        }
    }
}
