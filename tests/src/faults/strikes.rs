//! How often a fault struck, by what it struck.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Counts, by what was struck, as in `kill of node 2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strikes(BTreeMap<String, u64>);

impl Strikes {
    pub fn add(&mut self, on: impl Into<String>, times: u64) {
        if times > 0 {
            *self.0.entry(on.into()).or_default() += times;
        }
    }

    pub fn all(&mut self, of: Strikes) {
        for (on, times) in of.0 {
            self.add(on, times);
        }
    }

    /// It never struck anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Strikes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strikes = self.0.iter().map(|(on, times)| format!("{on} × {times}"));
        f.write_str(&strikes.collect::<Vec<_>>().join(", "))
    }
}
