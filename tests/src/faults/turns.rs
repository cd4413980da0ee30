//! The turns that a swarm's moves had: how often each was on, how often it struck, and why it could not begin.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::moves::Move;

/// By the move's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns(BTreeMap<String, Turn>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    begun: u64,
    struck: u64,
    could_not: BTreeMap<String, u64>,
}

impl Turns {
    pub fn drawn(&mut self, what: Move) {
        self.of(what);
    }

    pub fn begun(&mut self, what: Move) {
        self.of(what).begun += 1;
    }

    pub fn struck(&mut self, what: Move) {
        self.of(what).struck += 1;
    }

    pub fn could_not(&mut self, what: Move, why: &str) {
        let known = &mut self.of(what).could_not;
        *known.entry(why.to_owned()).or_default() += 1;
    }

    /// It was on twice or more, and nothing came of it: the run has not shown what it seems to show.
    pub fn never_struck(&self, what: Move) -> bool {
        let turn = self.0.get(&what.to_string());
        turn.is_some_and(|turn| turn.begun >= 2 && turn.struck == 0)
    }

    fn of(&mut self, what: Move) -> &mut Turn {
        self.0.entry(what.to_string()).or_default()
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, turn) in &self.0 {
            let (begun, struck) = (turn.begun, turn.struck);
            write!(f, "  {what:<22} begun {begun:>3}, struck {struck:>3}")?;
            for (why, times) in &turn.could_not {
                write!(f, ", not begun {times}: {why}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_that_was_never_on_is_told_with_the_reason() {
        let mut turns = Turns::default();
        for what in [Move::Ring, Move::Split, Move::KillNode] {
            turns.drawn(what);
        }
        turns.begun(Move::Ring);
        turns.begun(Move::KillNode);
        turns.begun(Move::KillNode);
        assert!(turns.never_struck(Move::KillNode) && !turns.never_struck(Move::Ring));
        turns.struck(Move::KillNode);
        turns.could_not(Move::Split, "no shard is left");
        turns.could_not(Move::Split, "no shard is left");
        assert!(!turns.never_struck(Move::KillNode) && !turns.never_struck(Move::Split));
        let told = turns.to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].contains("kill-node") && lines[0].contains("struck   1"));
        assert!(lines[1].contains("ring") && lines[1].contains("begun   1, struck   0"));
        assert!(lines[2].contains("not begun 2: no shard is left"), "{told}");
    }
}
