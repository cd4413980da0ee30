//! What a disk does wrong, by operation and file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};

/// What is done to a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Read,
    Write,
    /// Of files and of folders.
    Sync,
}

impl FromStr for Op {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "read" => Op::Read,
            "write" => Op::Write,
            "sync" => Op::Sync,
            _ => bail!("{word:?} is none of read, write, sync"),
        })
    }
}

/// What happens instead, or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// EIO.
    Fail,
    /// It takes so much longer.
    Slow(Duration),
    /// It does not end until the disk is healed.
    Hang,
}

/// A fault of the disk.
#[derive(Debug, Clone)]
pub struct Rule {
    pub op: Op,
    /// Of the path on this disk; `*` stands for anything.
    pub pattern: String,
    pub strike: Strike,
}

/// All faults, and how often each has struck.
#[derive(Default)]
pub struct Rules {
    rules: Vec<Rule>,
    struck: Vec<Struck>,
}

/// How often a fault has struck, and what it hit last.
struct Struck {
    op: Op,
    strike: Strike,
    count: u64,
    last: String,
}

impl Rules {
    pub fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// No more faults. What has struck is remembered.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// What happens to this operation: the rule that was added last decides.
    pub fn strike(&mut self, op: Op, path: &str) -> Option<Strike> {
        let fits = |rule: &&Rule| rule.op == op && matches(&rule.pattern, path);
        let strike = self.rules.iter().rev().find(fits)?.strike;
        let kind = std::mem::discriminant(&strike);
        let known = self
            .struck
            .iter_mut()
            .find(|struck| struck.op == op && std::mem::discriminant(&struck.strike) == kind);
        match known {
            Some(struck) => {
                struck.count += 1;
                path.clone_into(&mut struck.last);
            }
            None => self.struck.push(Struck {
                op,
                strike,
                count: 1,
                last: path.to_owned(),
            }),
        }
        Some(strike)
    }

    /// Whether this operation hangs, as things are now.
    pub fn hangs(&self, op: Op, path: &str) -> bool {
        let fits = |rule: &&Rule| rule.op == op && matches(&rule.pattern, path);
        let rule = self.rules.iter().rev().find(fits);
        rule.is_some_and(|rule| rule.strike == Strike::Hang)
    }
}

/// As in `write fail 3 data/log/000012.log; sync slow 40 data/log/000012.log`.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, struck) in self.struck.iter().enumerate() {
            let (op, what) = match (struck.op, struck.strike) {
                (Op::Read, strike) => ("read", strike),
                (Op::Write, strike) => ("write", strike),
                (Op::Sync, strike) => ("sync", strike),
            };
            let what = match what {
                Strike::Fail => "fail",
                Strike::Slow(_) => "slow",
                Strike::Hang => "hang",
            };
            let between = if number == 0 { "" } else { "; " };
            write!(f, "{between}{op} {what} {} {}", struck.count, struck.last)?;
        }
        Ok(())
    }
}

/// Whether a path fits a pattern; `*` stands for any characters, slashes too.
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, fits) in [
            ("data/log/*.log", true),
            ("*", true),
            ("*/log/*", true),
            ("data/log/000001.log", true),
            ("data/log/*.sst", false),
            ("data/log", false),
            ("data/*log*log*log", false),
            ("log/*", false),
        ] {
            assert_eq!(matches(pattern, "data/log/000001.log"), fits, "{pattern}");
        }
    }

    #[test]
    fn the_newest_rule_decides_and_strikes_are_counted() {
        let mut rules = Rules::default();
        let rule = |op, pattern: &str, strike| Rule {
            op,
            pattern: pattern.to_owned(),
            strike,
        };
        rules.add(rule(Op::Sync, "*", Strike::Slow(Duration::from_secs(1))));
        rules.add(rule(Op::Sync, "data/log/*", Strike::Hang));
        assert_eq!(rules.strike(Op::Sync, "data/log/1"), Some(Strike::Hang));
        assert!(rules.hangs(Op::Sync, "data/log/1"));
        assert!(matches!(
            rules.strike(Op::Sync, "data/state/1"),
            Some(Strike::Slow(_))
        ));
        assert_eq!(rules.strike(Op::Write, "data/log/1"), None);
        assert_eq!(
            rules.to_string(),
            "sync hang 1 data/log/1; sync slow 1 data/state/1"
        );
        rules.clear();
        assert_eq!(rules.strike(Op::Sync, "data/log/1"), None);
    }
}
