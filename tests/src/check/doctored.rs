//! The checker, checked: a good history passes, and each doctored one is found out by the promise that it breaks.

use crate::check::all;
use crate::history::{
    Closing, Entry, ListRow, MessageKey, OnlineSession, ReaderLog, ReplicaDigest, Run, SeenEvent,
    Way, What, text_digest,
};

const CONVERSATION: &str = "d:5:alice:bob";

fn key(id: &str) -> MessageKey {
    MessageKey {
        conversation: CONVERSATION.into(),
        sender: "alice".into(),
        id: id.into(),
    }
}

fn event(seq: u64, id: &str) -> SeenEvent {
    SeenEvent {
        seq,
        time_ms: 1000 + seq as i64,
        sender: "alice".into(),
        id: id.into(),
        digest: text_digest(id),
    }
}

fn attempt(at_us: u64, id: &str) -> Entry {
    Entry {
        at_us,
        what: What::Attempt {
            message: key(id),
            session: "alice/1".into(),
            digest: text_digest(id),
        },
    }
}

fn ack(at_us: u64, id: &str, seq: u64, duplicate: bool) -> Entry {
    let time_ms = 1000 + seq as i64;
    Entry {
        at_us,
        what: What::Acknowledged {
            message: key(id),
            session: "alice/1".into(),
            seq,
            time_ms,
            duplicate,
        },
    }
}

fn received(at_us: u64, event: SeenEvent) -> Entry {
    let (session, user) = ("bob/1".to_owned(), "bob".to_owned());
    Entry {
        at_us,
        what: What::Received {
            session,
            user,
            conversation: CONVERSATION.into(),
            event,
            way: Way::Push,
        },
    }
}

fn log(reader: &str, gateway: &str) -> ReaderLog {
    let events = vec![event(1, "m1"), event(2, "m2"), event(3, "m3")];
    ReaderLog {
        reader: reader.into(),
        gateway: gateway.into(),
        conversation: CONVERSATION.into(),
        events,
    }
}

fn row(user: &str, gateway: &str, read_seq: u64, unread_count: u64) -> ListRow {
    let (user, gateway, conversation) = (user.into(), gateway.into(), CONVERSATION.into());
    ListRow {
        user,
        gateway,
        conversation,
        head_seq: 3,
        read_seq,
        unread_count,
    }
}

fn replica(node_id: u64) -> ReplicaDigest {
    ReplicaDigest {
        node_id,
        shard: 0,
        applied: 7,
        digest: "aa".into(),
        rows: 9,
    }
}

/// Three messages of alice to bob: m1 acknowledged, m2 after a retry, m3 never answered but stored.
fn good() -> Run {
    let doubt = What::Doubt {
        message: key("m2"),
        session: "alice/1".into(),
        reason: "closed".into(),
    };
    let marked = What::Marked {
        user: "bob".into(),
        conversation: CONVERSATION.into(),
        asked: 2,
        read_seq: 2,
    };
    let head = What::Head {
        session: "bob/1".into(),
        conversation: CONVERSATION.into(),
        invoked_us: 65,
        head_seq: 2,
    };
    let probe = What::ConflictProbe {
        message: key("m1"),
        digest: text_digest("other"),
        code: "conflict".into(),
    };
    let entries = vec![
        attempt(10, "m1"),
        ack(20, "m1", 1, false),
        received(25, event(1, "m1")),
        attempt(30, "m2"),
        Entry {
            at_us: 40,
            what: doubt,
        },
        attempt(50, "m2"),
        ack(60, "m2", 2, true),
        received(62, event(2, "m2")),
        Entry {
            at_us: 66,
            what: marked,
        },
        Entry {
            at_us: 68,
            what: head,
        },
        Entry {
            at_us: 69,
            what: probe,
        },
        attempt(70, "m3"),
        received(80, event(3, "m3")),
        attempt(90, "never stored"),
    ];
    let closing = Closing {
        logs: vec![log("alice", "g1"), log("bob", "g1"), log("bob", "g2")],
        rows: vec![
            row("alice", "g1", 0, 0),
            row("bob", "g1", 2, 1),
            row("bob", "g2", 2, 1),
        ],
        replicas: vec![replica(1), replica(2), replica(3)],
        online: vec![OnlineSession {
            session: "bob/1".into(),
            user: "bob".into(),
        }],
        shards: Vec::new(),
        app_id: "demo".into(),
    };
    Run { entries, closing }
}

/// Which promises the checker finds broken after a change to the good run.
fn broken_by(doctor: impl FnOnce(&mut Run)) -> Vec<String> {
    let mut run = good();
    doctor(&mut run);
    let mut promises: Vec<String> = all(&run)
        .into_iter()
        .map(|violation| violation.promise)
        .collect();
    promises.dedup();
    promises
}

fn each_log(run: &mut Run, change: impl Fn(&mut Vec<SeenEvent>)) {
    run.closing
        .logs
        .iter_mut()
        .for_each(|log| change(&mut log.events));
}

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
        run.entries[11].at_us = 5;
        let m3 = run.entries.remove(11);
        run.entries.insert(0, m3);
    };
    assert_eq!(broken_by(swap), ["ordered"]);
    let excused = broken_by(|run| {
        swap(run);
        let doubt = What::Doubt {
            message: key("m3"),
            session: "alice/1".into(),
            reason: "unavailable".into(),
        };
        run.entries.insert(
            9,
            Entry {
                at_us: 63,
                what: doubt,
            },
        );
    });
    assert_eq!(excused, Vec::<String>::new());
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
