//! What is stored, and what came of it.

use super::fixture::*;
use crate::check::all;
use crate::history::{Entry, Run, What, text_digest};

#[test]
fn the_good_run_passes_with_its_unknown_outcomes() {
    assert_eq!(all(&good()), vec![]);
}

#[test]
fn a_lost_tail_is_found_although_everybody_agrees_on_it() {
    let broken = broken_by(|run| {
        each_log(run, |events| events.truncate(1));
        run.entries
            .retain(|entry| !matches!(&entry.what, What::Received { event, .. } if event.seq > 1));
    });
    assert!(broken.contains(&"durable".to_owned()), "{broken:?}");
    assert!(broken.contains(&"seen".to_owned()), "{broken:?}");
}

#[test]
fn another_message_in_an_acknowledged_place_is_found() {
    let broken = broken_by(|run| {
        each_log(run, |events| {
            events.swap(0, 1);
            events[0].seq = 1;
            events[1].seq = 2;
        });
    });
    assert!(broken.contains(&"durable".to_owned()), "{broken:?}");
}

#[test]
fn a_changed_text_or_time_is_found() {
    let broken = broken_by(|run| each_log(run, |events| events[0].digest = text_digest("else")));
    assert!(broken.contains(&"durable".to_owned()), "{broken:?}");
    let broken = broken_by(|run| each_log(run, |events| events[0].time_ms += 1));
    assert!(broken.contains(&"durable".to_owned()), "{broken:?}");
}

#[test]
fn a_read_cursor_that_moved_back_is_found() {
    let broken = broken_by(|run| {
        run.closing.rows[1].read_seq = 1;
        run.closing.rows[1].unread_count = 2;
    });
    assert_eq!(broken, ["durable"]);
}

#[test]
fn gaps_and_differing_readers_are_found() {
    assert!(
        broken_by(|run| drop(run.closing.logs[0].events.remove(1))).contains(&"ordered".to_owned())
    );
    assert_eq!(
        broken_by(|run| drop(run.closing.logs[1].events.pop())),
        ["ordered"]
    );
    assert_eq!(
        broken_by(|run| run.closing.logs[2].events.swap(0, 1)),
        ["ordered"]
    );
}

#[test]
fn a_session_that_receives_out_of_order_is_found() {
    let broken = broken_by(|run| run.entries.swap(2, 7));
    assert!(broken.contains(&"ordered".to_owned()), "{broken:?}");
}

#[test]
fn a_senders_messages_in_another_order_are_found_unless_a_retry_explains_it() {
    let swap = |run: &mut Run| {
        // m3 left before m2 did, and m2 is stored before it.
        run.entries[11].at_us = 21;
        let m3 = run.entries.remove(11);
        run.entries.insert(2, m3);
    };
    assert_eq!(broken_by(swap), ["ordered"]);
    // It was given up before, and left again behind.
    let again = |code: &'static str| {
        broken_by(|run| {
            swap(run);
            run.entries.insert(6, doubt(45, "m3", code));
            run.entries.insert(10, attempt(64, "m3"));
        })
    };
    assert_eq!(again("unavailable"), Vec::<String>::new());
    assert_eq!(again("outcome_unknown"), Vec::<String>::new());
    // Its connection broke: the one behind it on that connection cannot be stored without it.
    assert_eq!(again(""), ["ordered"]);
}

#[test]
fn a_duplicate_is_found_in_the_log_and_in_the_answers() {
    let twice = broken_by(|run| {
        each_log(run, |events| events.push(event(4, "m1")));
        run.entries.push(received(99, event(4, "m1")));
        run.closing.rows.iter_mut().for_each(|row| row.head_seq = 4);
        run.closing.rows[1..]
            .iter_mut()
            .for_each(|row| row.unread_count = 2);
    });
    assert!(twice.contains(&"once".to_owned()), "{twice:?}");
    assert!(broken_by(|run| run.entries.push(ack(99, "m1", 3, true))).contains(&"once".to_owned()));
    assert_eq!(
        broken_by(|run| run.entries.push(ack(99, "m1", 1, false))),
        ["once"]
    );
}

#[test]
fn what_nobody_sent_and_what_should_conflict_is_found() {
    let phantom = broken_by(|run| {
        run.entries.retain(
            |entry| !matches!(&entry.what, What::Attempt { message, .. } if message.id == "m3"),
        );
    });
    assert_eq!(phantom, ["once"]);
    let answered = What::ConflictProbe {
        message: key("m1"),
        digest: text_digest("other"),
        code: "ok".into(),
    };
    assert_eq!(
        broken_by(|run| run.entries.push(Entry {
            at_us: 99,
            what: answered
        })),
        ["once"]
    );
}

#[test]
fn an_event_handed_to_the_app_twice_is_found() {
    assert!(
        broken_by(|run| run.entries.push(received(99, event(3, "m3"))))
            .contains(&"once".to_owned())
    );
}

#[test]
fn an_event_that_never_came_is_found() {
    let broken = broken_by(|run| drop(run.entries.remove(12)));
    assert_eq!(broken, ["delivered"]);
    let silent = broken_by(|run| {
        run.entries
            .retain(|entry| !matches!(entry.what, What::Received { .. }))
    });
    assert_eq!(silent, ["delivered"]);
}

#[test]
fn a_wrong_unread_count_head_or_list_is_found() {
    assert_eq!(
        broken_by(|run| run.closing.rows[1].unread_count = 2),
        ["unread"]
    );
    assert_eq!(
        broken_by(|run| run.closing.rows[2].head_seq = 2),
        ["unread"]
    );
    assert_eq!(broken_by(|run| drop(run.closing.rows.pop())), ["unread"]);
    // Own messages are never unread.
    assert_eq!(
        broken_by(|run| run.closing.rows[0].unread_count = 3),
        ["unread"]
    );
}

#[test]
fn replicas_that_differ_or_lag_are_found() {
    assert_eq!(
        broken_by(|run| run.closing.replicas[2].digest = "bb".into()),
        ["replicas"]
    );
    assert_eq!(
        broken_by(|run| run.closing.replicas[2].applied = 6),
        ["replicas"]
    );
}

#[test]
fn a_stale_read_is_found_but_a_concurrent_one_is_not() {
    let head = |invoked_us| {
        let (session, conversation) = ("bob/1".to_owned(), CONVERSATION.to_owned());
        Entry {
            at_us: 95,
            what: What::Head {
                session,
                conversation,
                invoked_us,
                head_seq: 1,
            },
        }
    };
    assert_eq!(broken_by(|run| run.entries.push(head(70))), ["fresh"]);
    assert_eq!(
        broken_by(|run| run.entries.push(head(55))),
        Vec::<String>::new()
    );
}
