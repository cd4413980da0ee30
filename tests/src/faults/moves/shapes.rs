//! Shapes that a network falls apart into: who no longer hears whom.

use super::Move;
use crate::cluster::network::Way;

impl Move {
    /// The ways that are cut among nodes which stand in this order.
    pub(super) fn cuts(self, nodes: &[u64]) -> Vec<Way> {
        let count = nodes.len();
        // The one in the middle is the last.
        let half = match self {
            Move::Bridge => count.saturating_sub(1).div_ceil(2),
            _ => count / 2,
        };
        let apart = |one: usize, two: usize| match self {
            Move::Halves => (one < half) != (two < half),
            Move::Bridge => one.max(two) + 1 < count && (one < half) != (two < half),
            _ => {
                let distance = one.abs_diff(two);
                distance.min(count - distance) > reach(count)
            }
        };
        let pairs = (0..count).flat_map(|one| (0..count).map(move |two| (one, two)));
        let cut = pairs.filter(|(one, two)| one != two && apart(*one, *two));
        cut.map(|(one, two)| (nodes[one], nodes[two])).collect()
    }
}

/// How far a node hears in a ring to either side, so that it hears a majority and not all.
fn reach(count: usize) -> usize {
    (count / 2).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard_by(one: u64, nodes: &[u64], what: Move) -> Vec<u64> {
        let cuts = what.cuts(nodes);
        let hears = |other: &&u64| !cuts.contains(&(**other, one));
        nodes.iter().filter(hears).copied().collect()
    }

    #[test]
    fn halves_bridges_and_rings_cut_what_they_say() {
        let five = [1, 2, 3, 4, 5];
        assert_eq!(heard_by(1, &five, Move::Halves), [1, 2]);
        assert_eq!(heard_by(4, &five, Move::Halves), [3, 4, 5]);
        assert_eq!(heard_by(1, &five, Move::Bridge), [1, 2, 5]);
        assert_eq!(heard_by(3, &five, Move::Bridge), [3, 4, 5]);
        assert_eq!(heard_by(5, &five, Move::Bridge), five);
        assert_eq!(heard_by(1, &five, Move::Ring), [1, 2, 5]);
        assert_eq!(heard_by(2, &[1, 2, 3], Move::Bridge), [2, 3]);
        assert!(Move::Ring.cuts(&[1, 2, 3]).is_empty());
        for count in [5, 7, 9] {
            let nodes: Vec<u64> = (1..=count).collect();
            let heard = heard_by(1, &nodes, Move::Ring).len() as u64;
            assert!(heard > count / 2 && heard < count, "{heard} of {count}");
        }
    }
}
