//! What readers see of rows that a shard's state machine wrote.

use bytes::Bytes;
use parlance_proto::client::v1::{Message as ChatMessage, content, event};
use parlance_proto::limits::PREVIEW_BYTES_MAX;

use super::*;
use crate::apply::tests::fixture::{CHAT, Replica, read, send};
use crate::conversation::CHECKPOINT_EVENTS;
use crate::store::faulty::FaultyStore;

/// More than is between two writes of the conversation's row, twice.
const EVENTS: u64 = 40;

fn app_id() -> AppId {
    AppId::new("demo").unwrap()
}

fn chat() -> (ConversationId, ConversationKeys) {
    let conversation = ConversationId::parse(CHAT).unwrap();
    let slot = Slot::of_conversation(&app_id(), &conversation);
    let keys = ConversationKeys::new(slot, &app_id(), &conversation);
    (conversation, keys)
}

fn page_of(replica: &Replica, page: HistoryPage) -> HistoryResult {
    let (conversation, keys) = chat();
    history(&StoreRows(&*replica.store), &conversation, &keys, page).unwrap()
}

fn page(start_seq: u64, limit: u32, direction: Direction) -> HistoryPage {
    HistoryPage {
        start_seq,
        limit,
        direction,
        max_bytes: 0,
    }
}

fn events(page: &HistoryResult) -> Vec<Event> {
    let events = page.events.iter();
    events
        .map(|bytes| Event::decode(&bytes[..]).unwrap())
        .collect()
}

fn seqs(page: &HistoryResult) -> Vec<u64> {
    events(page).iter().map(|event| event.seq).collect()
}

fn text(event: &Event) -> &str {
    match &event.body {
        Some(event::Body::Message(ChatMessage {
            content: Some(content),
            ..
        })) => match &content.kind {
            Some(content::Kind::Text(text)) => text,
            other => panic!("no text: {other:?}"),
        },
        other => panic!("no message: {other:?}"),
    }
}

fn head_of(replica: &Replica, user: &str) -> Conversation {
    let (conversation, keys) = chat();
    let user = UserId::new(user).unwrap();
    head(&StoreRows(&*replica.store), &conversation, &keys, &user).unwrap()
}

#[test]
fn history_goes_both_ways_from_any_event_and_says_whether_there_is_more() {
    let mut replica = Replica::new();
    for seq in 1..=EVENTS {
        replica.one(1, send("alice", &format!("m{seq}"), &format!("text {seq}")));
    }
    for start in 0..EVENTS + 3 {
        for limit in [1, 7, 16, 0, 500] {
            let wanted = match limit {
                0 => HISTORY_EVENTS_DEFAULT,
                wanted => wanted,
            } as usize;
            let forward = page_of(&replica, page(start, limit, Direction::Forward));
            let all: Vec<u64> = (start.max(1)..=EVENTS).collect();
            let expected: Vec<u64> = all.iter().copied().take(wanted).collect();
            assert_eq!(seqs(&forward), expected, "forward from {start}");
            assert_eq!(forward.more, all.len() > wanted, "forward from {start}");
            assert_eq!(forward.head_seq, EVENTS);

            let newest = if start == 0 {
                EVENTS
            } else {
                start.min(EVENTS)
            };
            let first = newest.saturating_sub(wanted as u64) + 1;
            for direction in [Direction::Backward, Direction::Unspecified] {
                let backward = page_of(&replica, page(start, limit, direction));
                let expected: Vec<u64> = (first..=newest).collect();
                assert_eq!(seqs(&backward), expected, "backward from {start}");
                assert_eq!(backward.more, first > 1, "backward from {start}");
                assert_eq!(backward.head_seq, EVENTS);
            }
        }
    }
    let some = events(&page_of(&replica, page(17, 1, Direction::Forward))).remove(0);
    assert_eq!(
        (text(&some), &*some.sender, some.time_ms),
        ("text 17", "alice", 1)
    );
    assert_eq!(some.conversation_id, CHAT);
}

#[test]
fn a_conversation_without_events_has_an_empty_history_and_head() {
    let replica = Replica::new();
    for direction in [Direction::Forward, Direction::Backward] {
        let page = page_of(&replica, page(0, 10, direction));
        assert_eq!(page, HistoryResult::default());
    }
    let head = head_of(&replica, "bob");
    assert_eq!((head.head_seq, head.last_event.clone()), (0, None));
    assert_eq!(head.peer, "alice");
}

#[test]
fn large_events_come_in_pages_of_bytes_without_a_gap() {
    let mut replica = Replica::new();
    let large = "x".repeat(31_000);
    for seq in 1..=25 {
        replica.one(1, send("alice", &format!("m{seq}"), &large));
    }
    for (max_bytes, events_max) in [(0, 2), (u32::MAX, 2), (40_000, 1), (1, 1)] {
        for direction in [Direction::Forward, Direction::Backward] {
            let (mut start, mut seen) = (0, Vec::new());
            loop {
                let wanted = HistoryPage {
                    max_bytes,
                    ..page(start, 100, direction)
                };
                let page = page_of(&replica, wanted);
                let bytes: usize = page.events.iter().map(Bytes::len).sum();
                assert!(bytes <= ANSWER_BYTES_MAX, "{bytes} bytes");
                assert_eq!(page.events.len(), events_max.min(25 - seen.len()));
                let seqs = seqs(&page);
                match direction {
                    Direction::Forward => {
                        start = seqs.last().unwrap() + 1;
                        seen.extend(seqs);
                    }
                    _ => {
                        start = seqs[0] - 1;
                        seen.splice(0..0, seqs);
                    }
                }
                if !page.more {
                    break;
                }
            }
            assert_eq!(seen, (1..=25).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_list_shows_only_the_beginning_of_a_large_event() {
    let mut replica = Replica::new();
    let short = "é".repeat(PREVIEW_BYTES_MAX / 2);
    replica.one(1, send("alice", "m1", &short));
    let head = head_of(&replica, "bob");
    assert!(!head.last_event_cut);
    assert_eq!(text(head.last_event.as_ref().unwrap()), short);
    // No character is cut in two.
    let long = format!("x{}", "é".repeat(PREVIEW_BYTES_MAX));
    replica.one(1, send("alice", "m2", &long));
    let head = head_of(&replica, "bob");
    assert!(head.last_event_cut);
    let shown = text(head.last_event.as_ref().unwrap());
    assert_eq!(shown.len(), PREVIEW_BYTES_MAX - 1);
    assert!(long.starts_with(shown));
    assert!(head.encoded_len() < PREVIEW_BYTES_MAX + 256);
}

#[test]
fn heads_say_what_each_user_has_read_and_has_not() {
    let mut replica = Replica::new();
    let (mut sent_by_alice, mut sent_by_bob) = (0, 0);
    for seq in 1..=EVENTS {
        let sender = if seq % 3 == 0 { "bob" } else { "alice" };
        match sender {
            "bob" => sent_by_bob += 1,
            _ => sent_by_alice += 1,
        }
        replica.one(1, send(sender, &format!("m{seq}"), &format!("text {seq}")));
        let (of_alice, of_bob) = (head_of(&replica, "alice"), head_of(&replica, "bob"));
        for head in [&of_alice, &of_bob] {
            assert_eq!(head.head_seq, seq);
            let last = head.last_event.as_ref().unwrap();
            assert_eq!(
                (last.seq, text(last), &*last.sender),
                (seq, &*format!("text {seq}"), sender)
            );
        }
        assert_eq!(of_alice.unread_count, sent_by_bob, "alice never reads");
        assert_eq!((of_alice.read_seq, of_bob.peer_read_seq), (0, 0));
        // Bob reads every fifth time.
        let read_seq = seq - seq % 5;
        if seq == read_seq {
            replica.one(1, read("bob", seq));
        }
        let of_bob = head_of(&replica, "bob");
        let unread = (read_seq + 1..=seq).filter(|seq| seq % 3 != 0).count();
        assert_eq!(
            (of_bob.read_seq, of_bob.unread_count),
            (read_seq, unread as u64)
        );
        assert_eq!(head_of(&replica, "alice").peer_read_seq, read_seq);
    }
    assert_eq!(sent_by_alice + sent_by_bob, EVENTS);
    let head = head_of(&replica, "bob");
    assert_eq!((&*head.conversation_id, &*head.peer), (CHAT, "alice"));
}

#[test]
fn a_head_that_is_read_while_its_counts_are_written_has_no_message_twice() {
    let mut replica = Replica::new();
    for seq in 1..CHECKPOINT_EVENTS {
        replica.one(1, send("alice", &format!("m{seq}"), "x"));
    }
    let store = FaultyStore::over(replica.store.clone());
    let meanwhile = move || drop(replica.one(1, send("bob", "b1", "x")));
    *store.after_scan.lock() = Some(Box::new(meanwhile));
    let (conversation, keys) = chat();
    let bob = UserId::new("bob").unwrap();
    let head = head(&StoreRows(&store), &conversation, &keys, &bob).unwrap();
    assert!(
        store.after_scan.lock().is_none(),
        "it was written meanwhile"
    );
    assert_eq!(
        (head.head_seq, head.unread_count),
        (CHECKPOINT_EVENTS, CHECKPOINT_EVENTS - 1)
    );
}
