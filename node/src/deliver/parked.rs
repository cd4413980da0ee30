//! Home shards that take nothing: no leader, no majority, or too slow. What is for them waits here, one queue a home, and is
//! tried again together, ever more seldom, until all of it is gone; what does not fit is set aside. Other homes do not notice:
//! what waits here takes no room of its shard's share.
//!
//! A home that takes all but what it cannot write, as its disk is full, has another queue for that, which holds up nothing
//! else. What comes when it can write again may so be pushed before what waits here; clients see by the seq that there is more.

use std::collections::{HashMap, VecDeque};

use ::metrics::Gauge;
use parking_lot::Mutex;
use parlance_proto::ids::{NodeId, ShardId};
use tokio::sync::watch;

use super::relay_sender::Queued;
use crate::metrics;

/// What may wait in one queue in memory, soft.
const HOME_MAX: Size = Size {
    items: 1024,
    bytes: 256 * 1024,
};
/// What may wait in all of them. The first item of each waits whatever others have: by it the home is tried.
const ALL_MAX: Size = Size {
    items: 64 * 1024,
    bytes: 32 << 20,
};

/// A queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) home: ShardId,
    pub(super) why: Why,
}

impl Line {
    pub(super) fn of(home: ShardId, why: Why) -> Self {
        Self { home, why }
    }
}

/// Why something waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// The home takes nothing.
    Silent,
    /// The home cannot write it.
    Unwritten,
}

impl Why {
    const ALL: [Why; 2] = [Why::Silent, Why::Unwritten];

    /// In metrics.
    fn name(self) -> &'static str {
        match self {
            Why::Silent => "silent",
            Why::Unwritten => "unwritten",
        }
    }
}

/// All that waits for homes at the moment.
pub(super) struct Parked {
    lines: Mutex<Lines>,
    /// Of each [`Why`].
    counts: [Gauge; 2],
    /// Rises when nothing waits any more in a queue.
    freed: watch::Sender<u64>,
}

#[derive(Default)]
struct Lines {
    by_id: HashMap<Line, Waiting>,
    size: Size,
}

#[derive(Default)]
struct Waiting {
    waiting: VecDeque<Queued>,
    /// Of what waits or is tried again.
    size: Size,
    /// Something was set aside: all that follows is too, so that it keeps its order.
    full: bool,
    /// Who leads it, as the last one asked said.
    hint: Option<NodeId>,
}

/// So many items, of so many bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    items: usize,
    bytes: usize,
}

/// What is tried again for a home.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) queued: Vec<Queued>,
    /// Counts as waiting until what is left of it is put back.
    pub(super) size: Size,
    pub(super) hint: Option<NodeId>,
}

impl Size {
    fn of(queued: &Queued) -> Self {
        Self {
            items: 1,
            bytes: queued.item.len(),
        }
    }

    fn add(&mut self, more: Self) {
        self.items += more.items;
        self.bytes += more.bytes;
    }

    fn sub(&mut self, less: Self) {
        self.items -= less.items;
        self.bytes -= less.bytes;
    }

    fn is_below(self, max: Self) -> bool {
        self.items < max.items && self.bytes < max.bytes
    }
}

impl Parked {
    /// Of this node.
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            lines: Mutex::default(),
            counts: Why::ALL.map(|why| metrics::homes_parked(node, why.name())),
            freed: watch::Sender::default(),
        }
    }

    fn count(&self, lines: &Lines) {
        for (why, count) in Why::ALL.iter().zip(&self.counts) {
            let homes = lines.by_id.keys().filter(|line| line.why == *why);
            count.set(homes.count() as f64);
        }
    }

    /// Told when nothing waits any more in a queue.
    pub(super) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    /// Whether a home takes nothing.
    pub(super) fn is_silent(&self, home: ShardId) -> bool {
        let line = Line::of(home, Why::Silent);
        self.lines.lock().by_id.contains_key(&line)
    }

    /// Whether what was set aside for a home has to stay so: it takes nothing, or has too much that it cannot write.
    pub(super) fn is_parked(&self, home: ShardId) -> bool {
        let lines = self.lines.lock();
        let unwritten = lines.by_id.get(&Line::of(home, Why::Unwritten));
        lines.by_id.contains_key(&Line::of(home, Why::Silent))
            || unwritten.is_some_and(|of| of.full)
    }

    /// Queues something behind what waits; answers whether nothing did, so that somebody has to try again.
    pub(super) fn park(&self, line: Line, items: Vec<Queued>, hint: Option<NodeId>) -> bool {
        let mut lines = self.lines.lock();
        let Lines { by_id, size } = &mut *lines;
        let begins = !by_id.contains_key(&line);
        let parked = by_id.entry(line).or_default();
        parked.hint = hint.or(parked.hint);
        for mut queued in items {
            let room = parked.size.is_below(HOME_MAX) && size.is_below(ALL_MAX);
            if !parked.full && (room || parked.size.items == 0) {
                queued.delivery.waits();
                parked.size.add(Size::of(&queued));
                size.add(Size::of(&queued));
                parked.waiting.push_back(queued);
            } else {
                parked.full = true;
                metrics::relay_set_aside();
                queued.delivery.set_aside(line.home, queued.slot);
            }
        }
        self.count(&lines);
        begins
    }

    /// Takes from the front what is still wanted, at most `max`, with a hint at who leads the home.
    pub(super) fn take(&self, line: Line, max: usize) -> Taken {
        let mut lines = self.lines.lock();
        let Lines { by_id, size } = &mut *lines;
        let mut taken = Taken::default();
        let Some(parked) = by_id.get_mut(&line) else {
            return taken;
        };
        while taken.queued.len() < max
            && let Some(queued) = parked.waiting.pop_front()
        {
            if queued.delivery.is_wanted() {
                taken.size.add(Size::of(&queued));
                taken.queued.push(queued);
            } else {
                parked.size.sub(Size::of(&queued));
                size.sub(Size::of(&queued));
            }
        }
        taken.hint = parked.hint.take();
        taken
    }

    /// What was taken, of this size, has been tried: what is left of it comes back to the front.
    pub(super) fn put_back(
        &self,
        line: Line,
        taken: Size,
        left: Vec<Queued>,
        hint: Option<NodeId>,
    ) {
        let mut lines = self.lines.lock();
        let Lines { by_id, size } = &mut *lines;
        let parked = by_id.entry(line).or_default();
        parked.hint = hint;
        parked.size.sub(taken);
        size.sub(taken);
        for queued in left.into_iter().rev() {
            parked.size.add(Size::of(&queued));
            size.add(Size::of(&queued));
            parked.waiting.push_front(queued);
        }
    }

    /// All that was tried was taken: unless something waits, the queue is no more. Answers whether that is so.
    pub(super) fn free(&self, line: Line) -> bool {
        let mut lines = self.lines.lock();
        let by_id = &mut lines.by_id;
        if by_id.get(&line).is_some_and(|of| !of.waiting.is_empty()) {
            return false;
        }
        by_id.remove(&line);
        self.count(&lines);
        drop(lines);
        self.freed.send_modify(|times| *times += 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use parlance_proto::slot::Slot;
    use parlance_proto::store::v1::Consumer;

    use super::super::under_way::UnderWay;
    use super::*;

    const HOMES: u32 = 512;

    fn line(home: u32) -> Line {
        Line::of(ShardId(home), Why::Silent)
    }

    #[test]
    fn all_homes_that_are_stuck_have_no_more_together_and_each_has_something() {
        let parked = Parked::new(NodeId(1));
        let under_way = UnderWay::new(Consumer::Relay, 0, Arc::default(), &Arc::default());
        let item = Bytes::from(vec![0; 32 * 1024]);
        let queued = |_| Queued {
            slot: Slot::FIRST,
            item: item.clone(),
            delivery: under_way.begin(1, item.len()).remove(0),
        };
        for home in 1..=HOMES {
            parked.park(line(home), (0..20).map(queued).collect(), None);
        }
        let all = |parked: &Parked| parked.lines.lock().size.bytes;
        let firsts = HOMES as usize * item.len();
        assert!((ALL_MAX.bytes..=ALL_MAX.bytes + firsts).contains(&all(&parked)));
        for home in (1..=HOMES).map(line) {
            let taken = parked.take(home, usize::MAX);
            assert!(!taken.queued.is_empty(), "nothing to try {home:?} by");
            let before = all(&parked);
            parked.put_back(home, taken.size, taken.queued, None);
            assert_eq!(all(&parked), before);
            let taken = parked.take(home, usize::MAX);
            parked.put_back(home, taken.size, Vec::new(), None);
            assert!(parked.free(home));
        }
        assert_eq!(all(&parked), 0);
    }
}
