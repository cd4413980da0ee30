//! The feature levels that this program speaks: the one place that a test build changes them.

use std::ops::RangeInclusive;

use parlance_proto::common::v1::VersionRange;

/// From the lowest to the highest.
#[cfg(not(feature = "unsafe-test-switches"))]
pub fn levels() -> RangeInclusive<u32> {
    parlance_proto::version::FEATURE_LEVELS
}

/// From the lowest to the highest, which a test of upgrades may raise.
#[cfg(feature = "unsafe-test-switches")]
pub fn levels() -> RangeInclusive<u32> {
    let ours = parlance_proto::version::FEATURE_LEVELS;
    let raised = std::env::var("PARLANCE_TEST_FEATURE_LEVEL")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(*ours.end());
    *ours.start()..=raised.max(*ours.end())
}

/// The highest level that all of these can speak; none if there is none.
pub fn common_level(ranges: impl IntoIterator<Item = VersionRange>) -> Option<u32> {
    let (min, max) = ranges.into_iter().fold((0, u32::MAX), |(min, max), range| {
        (min.max(range.min), max.min(range.max))
    });
    (min <= max && max < u32::MAX).then_some(max)
}

/// Whether a program with these levels can run in a cluster at `level`; one that said nothing speaks the first.
pub(super) fn speaks(theirs: Option<VersionRange>, level: u32) -> bool {
    let theirs = theirs.unwrap_or(VersionRange { min: 1, max: 1 });
    (theirs.min..=theirs.max).contains(&level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_level_of_all_is_found() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(common_level([range(1, 2), range(1, 1)]), Some(1));
        assert_eq!(common_level([range(1, 3), range(2, 4)]), Some(3));
        assert_eq!(common_level([range(1, 1), range(2, 2)]), None);
        assert_eq!(common_level([]), None);
        assert!(speaks(None, 1) && !speaks(None, 2));
        assert!(speaks(Some(range(1, 2)), 2) && !speaks(Some(range(2, 3)), 1));
    }
}
