//! The checker: one file per promise, each a pure function of what was recorded. It trusts no component and knows
//! no fault: whatever happened in between, these must hold.

mod available;
mod delivered;
mod durable;
mod fresh;
mod index;
mod once;
mod ordered;
mod pushed;
mod refused;
mod replicas;
mod seen;
mod sender_order;
mod unread;

#[cfg(test)]
mod doctored;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use available::{Gaps, gaps};
use index::Index;
pub use pushed::PUSHED_WITHIN_US;

use crate::history::Run;

/// At most this many violations of one promise are told; the rest is counted.
const TOLD_MAX: usize = 10;

/// A promise that was broken, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The check that found it, by its file's name.
    pub promise: String,
    pub evidence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.evidence)
    }
}

/// Gives the evidence against one promise.
type Check = fn(&Index<'_>) -> Vec<String>;

/// All promises against one run.
pub fn all(run: &Run) -> Vec<Violation> {
    let index = Index::of(run);
    let checks: [(&str, Check); 10] = [
        ("durable", durable::check),
        ("seen", seen::check),
        ("ordered", ordered::check),
        ("once", once::check),
        ("refused", refused::check),
        ("delivered", delivered::check),
        ("pushed", pushed::check),
        ("unread", unread::check),
        ("replicas", replicas::check),
        ("fresh", fresh::check),
    ];
    let mut violations = Vec::new();
    for (promise, check) in checks {
        let evidence = check(&index);
        let more = evidence.len().saturating_sub(TOLD_MAX);
        let told = evidence.into_iter().take(TOLD_MAX);
        let rest = (more > 0).then(|| format!("… and {more} more"));
        violations.extend(told.chain(rest).map(|evidence| Violation {
            promise: promise.to_owned(),
            evidence,
        }));
    }
    violations
}
