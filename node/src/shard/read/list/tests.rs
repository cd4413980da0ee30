//! What lists say of rows that a shard's state machine wrote.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::apply::tests::fixture::{Replica, batch, close, rows_between, split, touch};
use crate::machine::CommandOutcome;
use crate::shard::Touched;
use crate::totals::Totals;

fn alice() -> (AppId, UserId) {
    (AppId::new("demo").unwrap(), UserId::new("alice").unwrap())
}

fn keys() -> ListKeys {
    let (app, alice) = alice();
    ListKeys::new(Slot::of_user(&app, &alice), &app, &alice)
}

fn page(after: &str, limit: u32, since: Option<&str>) -> ListPage {
    ListPage {
        after: after.to_owned(),
        limit,
        since: since.map(str::to_owned),
    }
}

fn ask(replica: &Replica, page: &ListPage) -> ListConversationsResult {
    page_of_list(&*replica.store, &keys(), page, |_| {}).unwrap()
}

fn ids(page: &ListConversationsResult) -> Vec<&str> {
    let listed = page.conversations.iter();
    listed.map(|listed| &*listed.conversation_id).collect()
}

#[test]
fn a_list_comes_in_pages_in_order_and_has_nobody_elses_conversations() {
    let mut replica = Replica::new();
    let mut chats: Vec<String> = (0..250).map(|n| format!("d:5:alice:user{n}")).collect();
    let own = chats.iter().map(|id| touch("alice", id));
    let others = ["alic", "alice2", "bob"].map(|user| touch(user, "d:1:x:y"));
    replica.apply(&[batch(1, own.chain(others), 0)]);
    chats.sort();
    for since in [None, Some(""), Some("1.1")] {
        for limit in [1, 7, 100, 1_000] {
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let listed = ask(&replica, &page(&after, limit, since));
                assert!(listed.conversations.len() <= limit.min(CONVERSATIONS_PAGE_MAX) as usize);
                assert_eq!(listed.changes_only, since == Some("1.1"));
                seen.extend(ids(&listed).into_iter().map(str::to_owned));
                after = listed.conversations.last().unwrap().place.clone();
                if !listed.more {
                    break;
                }
            }
            assert_eq!(seen, chats, "in pages of {limit}");
        }
    }
}

#[test]
fn a_cursor_of_another_list_gets_the_whole_list() {
    let mut replica = Replica::new();
    assert_eq!(
        ask(&replica, &page("", 9, Some("7.1"))),
        ListConversationsResult::default()
    );
    replica.one(7, touch("alice", "d:5:alice:bob"));
    replica.one(8, close("alice", 1));
    assert_eq!(
        replica.one(8, close("alice", 1)),
        CommandOutcome::Closed,
        "once more"
    );
    for (since, whole) in [
        ("7.2", false),
        ("7.1", false),
        ("7.3", true),
        ("6.2", true),
        ("", true),
        ("7", true),
        ("7.x", true),
    ] {
        let listed = ask(&replica, &page("", 9, Some(since)));
        assert_eq!(listed.changes_only, !whole, "{since}");
        assert_eq!(listed.cursor, "7.2");
        assert_eq!(ids(&listed).len(), usize::from(since != "7.2"), "{since}");
    }
    let listed = ask(&replica, &page("", 9, None));
    assert_eq!(
        (&*listed.cursor, listed.changes_only),
        ("", false),
        "none was wanted"
    );
}

/// What happens, in a test that draws it.
#[derive(Debug, Clone)]
enum Step {
    /// A message in a conversation, and its relay.
    Message(u8),
    /// A device asks for a list, in pages of so many; behind the first page a read cursor moves in a conversation.
    List(usize, u32, u8),
    /// Another node leads, or the same anew.
    NewTerm,
    /// The user's slot becomes a child's.
    Split,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..6).prop_map(Step::Message),
        4 => (0usize..3, 1u32..4, 0u8..6).prop_map(|(who, limit, chat)| Step::List(who, limit, chat)),
        1 => Just(Step::NewTerm),
        1 => Just(Step::Split),
    ];
    prop::collection::vec(step, 40..120)
}

struct World {
    replica: Replica,
    /// The parent of a split, whose store it is.
    parent: Option<Replica>,
    touched: Touched,
    term: u64,
    /// Touches that were proposed.
    touches: usize,
}

impl World {
    /// As a relay does it.
    fn relay(&mut self, chat: u8) {
        let chat = format!("g:{chat}");
        let mark = self.touched.mark(self.term, &alice(), &chat);
        if self.touched.has(&mark) {
            return;
        }
        self.touches += 1;
        let outcome = self.replica.one(1, touch("alice", &chat));
        let CommandOutcome::Touched { generation } = outcome else {
            panic!("{outcome:?}")
        };
        self.touched.remember(&mark, generation);
    }

    /// As a leader does it: the conversations, and the cursor.
    fn list(&mut self, limit: u32, since: Option<&str>, moved: u8) -> (Vec<String>, String, bool) {
        if let Some(generation) = touched_generation(&*self.replica.store, &keys()).unwrap() {
            self.replica.one(1, close("alice", generation));
        }
        let (mut seen, mut asked) = (Vec::new(), page("", limit, Some(since.unwrap_or_default())));
        let (mut cursor, mut changes_only) = (None, false);
        loop {
            let tell = |generation| self.touched.tell(&alice(), generation);
            let listed = page_of_list(&*self.replica.store, &keys(), &asked, tell).unwrap();
            seen.extend(ids(&listed).into_iter().map(str::to_owned));
            if cursor.is_none() {
                cursor = Some(listed.cursor.clone());
                changes_only = listed.changes_only;
                self.relay(moved);
            }
            assert_eq!(listed.changes_only, changes_only);
            match listed.conversations.last() {
                Some(last) if listed.more => asked.after = last.place.clone(),
                _ => return (seen, cursor.unwrap_or_default(), changes_only),
            }
        }
    }

    fn split(&mut self) {
        if self.parent.is_some() {
            return;
        }
        let (app, user) = alice();
        let slot = Slot::of_user(&app, &user).number();
        let outcome = self.replica.apply(&[batch(1, [split(slot.into(), 2)], 0)]);
        assert_eq!(outcome, [CommandOutcome::Split]);
        let child = self.replica.child();
        self.parent = Some(std::mem::replace(&mut self.replica, child));
        self.touched = Touched::new(&Totals::default().touched);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// What a device knew and what it is told since is always all there is, and a conversation is touched once a list at most.
    #[test]
    fn the_difference_and_what_was_known_is_the_whole_list(steps in steps()) {
        let mut world = World {
            replica: Replica::new(),
            parent: None,
            touched: Touched::new(&Totals::default().touched),
            term: 1,
            touches: 0,
        };
        let mut truth: BTreeMap<String, u32> = BTreeMap::new();
        let mut devices: [(BTreeMap<String, u32>, String); 3] = Default::default();
        let mut lists = 1;
        for step in steps {
            match step {
                Step::Message(chat) => {
                    *truth.entry(format!("g:{chat}")).or_default() += 1;
                    world.relay(chat);
                }
                Step::List(who, limit, moved) => {
                    lists += 1;
                    // A cursor moves where there is a message.
                    let first = truth.keys().next().map_or(moved, |id| id.as_bytes()[2] - b'0');
                    let moved = if truth.contains_key(&format!("g:{moved}")) { moved } else { first };
                    if truth.is_empty() {
                        continue;
                    }
                    let (known, cursor) = &mut devices[who];
                    let since = (!cursor.is_empty()).then_some(&**cursor);
                    let (listed, next, changes_only) = world.list(limit, since, moved);
                    prop_assert_eq!(changes_only, !cursor.is_empty());
                    for id in listed {
                        let now = truth[&id];
                        known.insert(id, now);
                    }
                    prop_assert_eq!(&*known, &truth);
                    *cursor = next;
                }
                Step::NewTerm => {
                    lists += 1;
                    world.term += 1;
                }
                Step::Split => {
                    lists += 1;
                    world.split();
                }
            }
        }
        prop_assert!(world.touches <= 6 * lists);
        let rows = rows_between(&world.replica, Table::Users, keys().touches_behind(0, ""));
        prop_assert_eq!(rows, truth.len(), "one touch for each conversation");
    }
}

#[test]
fn lists_of_nobody_and_conversations_that_cannot_be_leave_no_row() {
    let mut replica = Replica::new();
    let outcome = replica.one(1, touch("alice", "z:1"));
    assert!(matches!(outcome, CommandOutcome::Refused(_)));
    assert_eq!(replica.one(1, close("nobody", 1)), CommandOutcome::Closed);
    let rows = rows_between(&replica, Table::Users, (vec![0], vec![255]));
    assert_eq!(rows, 0);
}
