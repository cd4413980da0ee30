//! Where things live: conversations and users hash to slots, and a shard owns a range of slots.
//!
//! Gateways and nodes must agree on this for the life of a cluster: the hash is fixed, and tested.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use crate::ids::{AppId, ConversationId, UserId};

/// Slots of the key space, fixed for ever.
pub const SLOTS: u16 = 16_384;

/// One slice of the key space, below [`SLOTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The first slot.
    pub const FIRST: Self = Self(0);
    /// The last slot.
    pub const LAST: Self = Self(SLOTS - 1);

    /// The slot of a number, if there is one.
    pub fn new(number: u32) -> Option<Self> {
        u16::try_from(number).ok().filter(|n| *n < SLOTS).map(Self)
    }

    /// Where a conversation lives.
    pub fn of_conversation(app: &AppId, conversation: &ConversationId) -> Self {
        hash(b'c', app, conversation.as_str())
    }

    /// A user's home: profile, sessions, conversation list.
    pub fn of_user(app: &AppId, user: &UserId) -> Self {
        hash(b'u', app, user.as_str())
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

fn hash(kind: u8, app: &AppId, id: &str) -> Slot {
    let mut hash = Xxh3::new();
    hash.update(&[kind]);
    hash.update(app.as_str().as_bytes());
    hash.update(&[0]); // no id has a zero byte
    hash.update(id.as_bytes());
    Slot((hash.digest() % u64::from(SLOTS)) as u16)
}

/// Contiguous slots, at least one; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    first: Slot,
    last: Slot,
}

impl SlotRange {
    /// All slots.
    pub const ALL: Self = Self {
        first: Slot::FIRST,
        last: Slot::LAST,
    };

    /// A range as messages have it; none if it is empty or not in the key space.
    pub fn new(first: u32, last: u32) -> Option<Self> {
        let (first, last) = (Slot::new(first)?, Slot::new(last)?);
        (first <= last).then_some(Self { first, last })
    }

    /// One slot alone.
    pub fn of(slot: Slot) -> Self {
        Self {
            first: slot,
            last: slot,
        }
    }

    /// The smallest range that has all of it and `slot`.
    pub fn widened_to(self, slot: Slot) -> Self {
        Self {
            first: self.first.min(slot),
            last: self.last.max(slot),
        }
    }

    /// Its first slot.
    pub fn first(self) -> Slot {
        self.first
    }

    /// Its last slot.
    pub fn last(self) -> Slot {
        self.last
    }

    /// Whether a slot is in it.
    pub fn contains(self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }

    /// What is left below `slot`, and what is from `slot` on; none unless both have a slot.
    pub fn split_at(self, slot: Slot) -> Option<(Self, Self)> {
        let below = slot.0.checked_sub(1).map(Slot)?;
        let cut = self.first < slot && slot <= self.last;
        cut.then_some((
            Self {
                last: below,
                ..self
            },
            Self {
                first: slot,
                ..self
            },
        ))
    }

    /// Where a split leaves two halves; none for a single slot.
    pub fn middle(self) -> Option<Slot> {
        let half = (self.last.0 - self.first.0).div_ceil(2);
        (half > 0).then(|| Slot(self.first.0 + half))
    }

    /// `count` ranges, at least one, that together are the key space and differ by one slot at most.
    pub fn divide(count: u16) -> impl Iterator<Item = Self> {
        let count = u32::from(count.clamp(1, SLOTS));
        let start = move |n: u32| (n * u32::from(SLOTS) / count) as u16;
        (0..count).map(move |n| Self {
            first: Slot(start(n)),
            last: Slot(start(n + 1) - 1),
        })
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A change here moves every conversation of every cluster: never edit the expected numbers.
    #[test]
    fn the_hash_is_fixed_for_ever() {
        let app = AppId::new("demo").unwrap();
        let slots = ["alice", "bob", "carol"]
            .map(|user| Slot::of_user(&app, &UserId::new(user).unwrap()).number());
        assert_eq!(slots, [13392, 13920, 14141]);
        let conversation = ConversationId::parse("d:5:alice:bob").unwrap();
        assert_eq!(Slot::of_conversation(&app, &conversation).number(), 8277);
    }

    #[test]
    fn users_spread_evenly_over_the_slots() {
        let app = AppId::new("demo").unwrap();
        let mut quarters = [0; 4];
        for n in 0..8_000 {
            let user = UserId::new(format!("user-{n}")).unwrap();
            quarters[usize::from(Slot::of_user(&app, &user).number() / (SLOTS / 4))] += 1;
        }
        assert!(
            quarters.iter().all(|n| (1_800..2_200).contains(n)),
            "{quarters:?}"
        );
    }

    #[test]
    fn a_range_is_cut_where_both_parts_have_a_slot() {
        let range = SlotRange::new(10, 20).unwrap();
        let (below, above) = range.split_at(Slot(15)).unwrap();
        assert_eq!(
            (below.to_string(), above.to_string()),
            ("10-14".into(), "15-20".into())
        );
        assert_eq!(range.middle(), Some(Slot(15)));
        assert!(range.split_at(Slot(10)).is_none() && range.split_at(Slot(21)).is_none());
        assert!(SlotRange::new(5, 5).unwrap().middle().is_none());
        assert!(SlotRange::new(5, 4).is_none() && SlotRange::new(0, 16_384).is_none());
    }

    proptest! {
        #[test]
        fn ranges_cover_the_key_space_once_whatever_their_number(count in 1..=SLOTS) {
            let ranges: Vec<_> = SlotRange::divide(count).collect();
            prop_assert_eq!(ranges.len(), usize::from(count));
            prop_assert_eq!(ranges[0].first(), Slot::FIRST);
            prop_assert_eq!(ranges[ranges.len() - 1].last(), Slot::LAST);
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].last().number() + 1, pair[1].first().number());
            }
            let sizes = ranges.iter().map(|range| range.last().0 - range.first().0);
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }

        #[test]
        fn a_slot_is_in_one_half_of_a_split_range(first in 0..16_384u32, last in 0..16_384u32, slot in 0..16_384u32) {
            let range = SlotRange::new(first, last);
            prop_assert_eq!(range.is_some(), first <= last);
            if let Some((range, middle)) = range.and_then(|r| Some((r, r.middle()?))) {
                let (below, above) = range.split_at(middle).unwrap();
                let slot = Slot::new(slot).unwrap();
                let halves = u8::from(below.contains(slot)) + u8::from(above.contains(slot));
                prop_assert_eq!(halves, u8::from(range.contains(slot)));
            }
        }
    }
}
