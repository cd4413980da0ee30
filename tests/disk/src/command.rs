//! The commands, one a line; each is answered by one line that begins with `ok` or `error`.
//!
//! | command | what it does |
//! | --- | --- |
//! | `fail read\|write\|sync PATTERN` | from now on these end with EIO |
//! | `slow read\|write\|sync PATTERN MS` | from now on these take so much longer |
//! | `hang read\|write\|sync PATTERN` | from now on these do not end |
//! | `full BYTES` | so many bytes still fit |
//! | `heal` | no more of all that |
//! | `off` | the power is gone: nothing works, and what has not ended yet fails |
//! | `cut SEED` | the power is back; the processes that used the disk must be dead |
//! | `flip PATTERN COUNT SEED` | flips one bit in each of so many files |
//! | `rot PATTERN FROM TO` | flips one bit in each block of this part, in percent, of all large files |
//! | `remember` | the disk as it is now is what `old` gives back |
//! | `old PATTERN SEED` | one block of a file is an old one again |
//! | `used` | bytes of all files, and how many fit |
//! | `struck` | how often what has struck, and on what last |
//! | `files PATTERN` | paths of the files |

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::mount::Shared;
use crate::rules::{Rule, Strike};

/// Does what a line says; the answer's text.
pub fn obey(shared: &Shared, line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| -> Result<u64> {
        let word = words.get(at).context("a number is missing")?;
        word.parse()
            .with_context(|| format!("{word:?} is no number"))
    };
    let pattern = |at: usize| words.get(at).copied().context("a pattern is missing");
    match words.first().copied().unwrap_or_default() {
        verb @ ("fail" | "slow" | "hang") => {
            let op = words.get(1).context("an operation is missing")?.parse()?;
            let strike = match verb {
                "fail" => Strike::Fail,
                "hang" => Strike::Hang,
                _ => Strike::Slow(Duration::from_millis(number(3)?)),
            };
            let pattern = pattern(2)?.to_owned();
            shared.add_rule(Rule {
                op,
                pattern,
                strike,
            });
            Ok(String::new())
        }
        "full" => {
            let mut disk = shared.disk.lock();
            let capacity = disk.used() + number(1)?;
            disk.set_capacity(Some(capacity));
            Ok(format!("{capacity} bytes fit"))
        }
        "heal" => {
            shared.heal();
            Ok(String::new())
        }
        "off" => {
            shared.switch_off();
            Ok(String::new())
        }
        "cut" => {
            let seed = number(1)?;
            shared.heal();
            let forgotten = shared.disk.lock().cut(seed);
            shared.switch_on();
            Ok(forgotten.to_string())
        }
        "flip" => {
            let (pattern, count, seed) = (pattern(1)?, number(2)?, number(3)?);
            let flipped = shared.disk.lock().flip(pattern, count as usize, seed);
            ensure!(!flipped.is_empty(), "no file with bytes fits {pattern}");
            Ok(flipped.join("; "))
        }
        "rot" => {
            let (pattern, from, to) = (pattern(1)?, number(2)?, number(3)?);
            ensure!(from < to && to <= 100, "{from} to {to} is no part");
            let rotten = shared.disk.lock().rot(pattern, from..to);
            ensure!(!rotten.is_empty(), "no large file fits {pattern}");
            Ok(rotten.join("; "))
        }
        "remember" => {
            *shared.remembered.lock() = shared.disk.lock().remember();
            Ok(String::new())
        }
        "old" => {
            let (pattern, seed) = (pattern(1)?, number(2)?);
            let then = shared.remembered.lock();
            let old = shared.disk.lock().grow_old(pattern, &then, seed);
            old.with_context(|| format!("no file that fits {pattern} has changed"))
        }
        "used" => {
            let disk = shared.disk.lock();
            Ok(format!("{} of {}", disk.used(), disk.capacity()))
        }
        "struck" => {
            let refused = shared.disk.lock().refused;
            let rules = shared.rules.lock().to_string();
            Ok(match refused {
                0 => rules,
                _ => format!("write full {refused} *; {rules}"),
            })
        }
        "files" => {
            let files = shared.disk.lock().files(pattern(1)?);
            let paths: Vec<String> = files.into_iter().map(|(_, path)| path).collect();
            Ok(paths.join(" "))
        }
        other => bail!("no command is named {other:?}"),
    }
}
