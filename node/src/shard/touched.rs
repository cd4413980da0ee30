//! Which conversations are surely marked as touched in the current generations of their users' lists, on the leader of the
//! home shard, so that most relays read no row. In memory, for one leadership.
//!
//! Whoever was told a cursor must find all that happens later under the cursor's generation or a later one. So a mark
//! counts no longer once a later generation was told to anybody, from before the answer left.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use super::UserTopic;
use crate::totals::{Part, Total};

/// A shard keeps so many, however many others have.
const LEAST: usize = 1024;

/// What one shard's leader knows.
pub struct Touched {
    inner: Mutex<Inner>,
}

struct Inner {
    term: u64,
    /// Drawn anew whenever something is forgotten: what somebody still remembers of before is in nobody's way.
    keys: (RandomState, RandomState),
    /// The generation in which each was touched.
    marks: HashMap<Digest, u64>,
    /// The newest generation of a user's list that somebody was told.
    told: HashMap<Digest, u64>,
    part: Part,
}

/// Of 128 bits and keyed: a wrong "yes" would lose a change.
type Digest = (u64, u64);

/// A conversation in a user's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    user: Digest,
    entry: Digest,
}

impl Touched {
    /// Nothing yet, of what all shards of a node may have.
    pub(super) fn new(total: &Arc<Total>) -> Self {
        Self {
            inner: Mutex::new(Inner::new(0, total.part())),
        }
    }

    /// The mark of a conversation, for the leader of this term.
    pub fn mark(&self, term: u64, user: &UserTopic, conversation: &str) -> Mark {
        let mut inner = self.inner.lock();
        if inner.term != term {
            inner.forget(term);
        }
        Mark {
            user: inner.digest(user),
            entry: inner.digest(&(user, conversation)),
        }
    }

    /// Whether it is surely touched in the current generation.
    pub fn has(&self, mark: &Mark) -> bool {
        let inner = self.inner.lock();
        let told = inner.told.get(&mark.user).copied().unwrap_or(0);
        inner.marks.get(&mark.entry).is_some_and(|at| *at >= told)
    }

    /// It was found touched in this generation.
    pub fn remember(&self, mark: &Mark, generation: u64) {
        let mut inner = self.inner.lock();
        inner.make_room();
        inner.marks.insert(mark.entry, generation);
        inner.count();
    }

    /// Somebody is about to be told this generation as that from which on changes are news.
    pub(super) fn tell(&self, user: &UserTopic, generation: u64) {
        let mut inner = self.inner.lock();
        inner.make_room();
        let user = inner.digest(user);
        let told = inner.told.entry(user).or_default();
        *told = generation.max(*told);
        inner.count();
    }
}

impl Inner {
    fn new(term: u64, mut part: Part) -> Self {
        part.set(0);
        Self {
            term,
            keys: <(RandomState, RandomState)>::default(),
            marks: HashMap::new(),
            told: HashMap::new(),
            part,
        }
    }

    fn forget(&mut self, term: u64) {
        self.term = term;
        self.keys = <(RandomState, RandomState)>::default();
        self.marks = HashMap::new();
        self.told = HashMap::new();
        self.count();
    }

    fn digest(&self, of: &impl std::hash::Hash) -> Digest {
        (self.keys.0.hash_one(of), self.keys.1.hash_one(of))
    }

    fn make_room(&mut self) {
        if self.marks.len() + self.told.len() >= LEAST && self.part.is_passed_by(1) {
            self.forget(self.term);
        }
    }

    fn count(&mut self) {
        self.part.set(self.marks.len() + self.told.len());
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::ids::{AppId, UserId};

    use super::*;

    fn user(id: &str) -> UserTopic {
        (AppId::new("demo").unwrap(), UserId::new(id).unwrap())
    }

    #[test]
    fn a_mark_counts_in_its_term_and_until_a_later_generation_is_told() {
        let touched = Touched::new(&Total::new(100_000));
        let (ann, bob) = (user("ann"), user("bob"));
        let mark = touched.mark(1, &ann, "d:3:ann:bob");
        assert!(!touched.has(&mark));
        touched.remember(&mark, 4);
        touched.tell(&ann, 4);
        touched.tell(&bob, 9);
        assert!(touched.has(&mark) && touched.has(&touched.mark(1, &ann, "d:3:ann:bob")));
        touched.tell(&ann, 5);
        touched.tell(&ann, 4);
        assert!(!touched.has(&mark));
        touched.remember(&mark, 4);
        assert!(
            !touched.has(&mark),
            "it was found before, and remembered late"
        );
        touched.remember(&mark, 5);
        assert!(touched.has(&mark));
        let next = touched.mark(2, &ann, "d:3:ann:bob");
        assert!(!touched.has(&next));
        touched.remember(&mark, 5);
        assert!(!touched.has(&next), "what the term before remembers late");
    }

    #[test]
    fn what_is_remembered_late_counts_for_nothing_once_there_was_no_room() {
        let touched = Touched::new(&Total::new(LEAST));
        let mark = touched.mark(1, &user("ann"), "d:3:ann:bob");
        touched.tell(&user("ann"), 5);
        for n in 0..2 * LEAST {
            let other = touched.mark(1, &user("bob"), &format!("g:{n}"));
            touched.remember(&other, 1);
        }
        touched.remember(&mark, 4);
        assert!(!touched.has(&touched.mark(1, &user("ann"), "d:3:ann:bob")));
        let inner = touched.inner.lock();
        assert!(inner.marks.len() + inner.told.len() <= LEAST + 1);
    }
}
