//! What this build can apply. A replica that meets more stops: it never goes on differently from the others.

use std::ops::RangeInclusive;

use crate::store::StoreError;

/// The feature levels that this build speaks.
#[derive(Debug, Clone)]
pub struct Levels(RangeInclusive<u32>);

impl Levels {
    /// From the lowest to the highest.
    pub fn new(levels: RangeInclusive<u32>) -> Self {
        Self(levels)
    }

    /// Whether an entry of this level can be applied.
    pub(super) fn check(&self, level: u32) -> Result<(), StoreError> {
        if level <= *self.0.end() {
            return Ok(());
        }
        Err(StoreError::NeedsNewerVersion { level })
    }

    /// A command that has no name here, whatever its entry says.
    pub(super) fn unknown(&self) -> StoreError {
        StoreError::NeedsNewerVersion {
            level: self.0.end() + 1,
        }
    }
}
