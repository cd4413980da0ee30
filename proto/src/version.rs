//! What this program can speak, and what two programs have in common.
//!
//! Wires have a range of protocol versions each: both ends greet with theirs and speak the highest that both know. What
//! is stored and proposed has one feature level for the whole cluster: it is in the cluster map, and rises only when all
//! nodes can speak the next one.

use std::ops::RangeInclusive;

use crate::common::v1::VersionRange;

/// Client and gateway.
pub const CLIENT_PROTOCOLS: RangeInclusive<u32> = 1..=1;
/// Gateway and node.
pub const LINK_PROTOCOLS: RangeInclusive<u32> = 1..=1;
/// Node and node.
pub const PEER_PROTOCOLS: RangeInclusive<u32> = 1..=1;

/// The feature levels that this build can speak.
pub const FEATURE_LEVELS: RangeInclusive<u32> = 1..=1;

/// The first level that this build does not speak: tests of upgrades speak it with the command `TestCommand`.
pub const TEST_FEATURE_LEVEL: u32 = *FEATURE_LEVELS.end() + 1;

/// For a greeting.
pub fn greeting(versions: RangeInclusive<u32>) -> Option<VersionRange> {
    Some(VersionRange {
        min: *versions.start(),
        max: *versions.end(),
    })
}

/// What a greeting without a range means.
const FIRST: VersionRange = VersionRange { min: 1, max: 1 };

/// The highest version that both know; none if there is none. A greeting without a range means version 1.
pub fn common(ours: RangeInclusive<u32>, theirs: Option<VersionRange>) -> Option<u32> {
    let theirs = theirs.unwrap_or(FIRST);
    let highest = theirs.max.min(*ours.end());
    (highest >= theirs.min && ours.contains(&highest)).then_some(highest)
}

/// For an error: why two ends cannot speak.
pub fn mismatch(what: &str, ours: RangeInclusive<u32>, theirs: Option<VersionRange>) -> String {
    let theirs = theirs.unwrap_or(FIRST);
    format!(
        "{what} versions {} to {} are spoken there, {} to {} here",
        theirs.min,
        theirs.max,
        ours.start(),
        ours.end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken() {
        let range = |min, max| Some(VersionRange { min, max });
        assert_eq!(common(1..=3, range(2, 5)), Some(3));
        assert_eq!(common(2..=3, range(1, 2)), Some(2));
        assert_eq!(common(1..=1, None), Some(1));
        assert_eq!(common(2..=3, range(4, 5)), None);
        assert_eq!(common(2..=3, range(1, 1)), None);
        assert_eq!(common(1..=3, range(5, 2)), None, "not a range");
    }

    #[test]
    fn a_refused_greeting_without_a_range_is_said_to_speak_the_first_version() {
        assert_eq!(
            mismatch("peer", 2..=3, None),
            "peer versions 1 to 1 are spoken there, 2 to 3 here"
        );
    }
}
