//! What readers were told, and when.

use super::fixture::*;
use crate::check::PUSHED_WITHIN_US;
use crate::history::{Entry, MessageKey, Run, SeenRow, Way, What};

const NOTHING: [&str; 0] = [];

fn add(run: &mut Run, at_us: u64, what: What) {
    run.entries.push(Entry { at_us, what });
}

fn head(invoked_us: u64, head_seq: u64) -> What {
    What::Head {
        session: "reader at node 1".into(),
        conversation: CONVERSATION.into(),
        invoked_us,
        head_seq,
    }
}

fn listed(invoked_us: u64, rows: Vec<SeenRow>) -> What {
    What::Listed {
        session: "bob/1".into(),
        user: "bob".into(),
        invoked_us,
        rows,
        whole: true,
    }
}

fn row_of(head_seq: u64, read_seq: u64, unread_count: u64) -> SeenRow {
    SeenRow {
        conversation: CONVERSATION.into(),
        head_seq,
        read_seq,
        unread_count,
    }
}

#[test]
fn what_was_told_and_is_not_in_the_log_is_found() {
    assert_eq!(broken_by(|run| add(run, 95, head(93, 4))), ["seen"]);
    let pushed = |seq| What::Pushed {
        session: "bob/1".into(),
        conversation: CONVERSATION.into(),
        seq,
    };
    assert_eq!(broken_by(|run| add(run, 95, pushed(4))), ["seen"]);
    assert_eq!(broken_by(|run| add(run, 95, pushed(3))), NOTHING);
    let other = broken_by(|run| {
        let mut other = event(3, "m3");
        other.time_ms += 1;
        run.entries[12] = received(80, other);
    });
    assert_eq!(other, ["seen"]);
}

#[test]
fn a_page_with_a_hole_or_an_early_end_is_found() {
    let page = |events: Vec<_>, more| What::Page {
        reader: "reader at node 1".into(),
        conversation: CONVERSATION.into(),
        invoked_us: 93,
        head_seq: 3,
        start_seq: 1,
        events,
        more,
    };
    let (m1, m2, m3) = (event(1, "m1"), event(2, "m2"), event(3, "m3"));
    let hole = page(vec![m1.clone(), m3.clone()], false);
    assert_eq!(broken_by(|run| add(run, 95, hole)), ["seen"]);
    let early = |more| page(vec![m1.clone(), m2.clone()], more);
    assert_eq!(broken_by(|run| add(run, 95, early(false))), ["seen"]);
    assert_eq!(broken_by(|run| add(run, 95, early(true))), NOTHING);
    let whole = page(vec![m1.clone(), m2.clone(), m3], false);
    assert_eq!(broken_by(|run| add(run, 95, whole)), NOTHING);
}

#[test]
fn a_read_behind_another_read_or_a_push_is_found() {
    // Seq 3 was never acknowledged; it was received at 80 and read by 92.
    assert_eq!(broken_by(|run| add(run, 95, head(85, 2))), ["fresh"]);
    assert_eq!(broken_by(|run| add(run, 95, head(79, 2))), NOTHING);
    let twice = broken_by(|run| {
        run.entries
            .retain(|entry| !matches!(&entry.what, What::Received { event, .. } if event.seq == 3));
        run.closing.online.clear();
        add(run, 95, head(93, 2));
    });
    assert_eq!(twice, ["fresh"]);
}

#[test]
fn a_cursor_a_count_or_a_list_that_goes_back_is_found() {
    let list = |rows| broken_by(|run| add(run, 95, listed(93, rows)));
    assert_eq!(list(vec![row_of(3, 2, 1)]), NOTHING);
    assert_eq!(list(vec![row_of(3, 1, 2)]), ["fresh"]);
    assert_eq!(list(vec![row_of(3, 2, 2)]), ["unread"]);
    assert_eq!(list(Vec::new()), ["fresh"]);
    let marked = What::Marked {
        user: "bob".into(),
        conversation: CONVERSATION.into(),
        invoked_us: 93,
        asked: 1,
        read_seq: 1,
    };
    assert_eq!(broken_by(|run| add(run, 95, marked)), ["fresh"]);
}

#[test]
fn a_valid_send_that_is_refused_and_one_that_is_stored_although_are_found() {
    let refused = |id: &str| What::Refused {
        message: key(id),
        session: "alice/1".into(),
        code: "invalid_argument".into(),
    };
    let kept = broken_by(|run| add(run, 95, refused("never stored")));
    assert_eq!(kept, ["refused"]);
    let stored = crate::check::all(&{
        let mut run = good();
        add(&mut run, 95, refused("m3"));
        run
    });
    assert_eq!(stored.len(), 2, "{stored:?}");
    assert!(
        stored
            .iter()
            .all(|violation| violation.promise == "refused")
    );
}

#[test]
fn what_was_acknowledged_before_another_left_stands_before_it_whoever_sent_it() {
    let broken = broken_by(|run| {
        // m3 of bob left when m2 had been acknowledged, and is stored before it.
        for log in &mut run.closing.logs {
            log.events.swap(1, 2);
            (log.events[1].seq, log.events[2].seq) = (2, 3);
            log.events[1].sender = "bob".into();
        }
        for entry in &mut run.entries {
            match &mut entry.what {
                What::Attempt {
                    message: MessageKey { sender, id, .. },
                    session,
                    ..
                } if id == "m3" => {
                    (*sender, *session) = ("bob".into(), "bob/1".into());
                }
                _ => {}
            }
        }
    });
    assert!(broken.contains(&"ordered".to_owned()), "{broken:?}");
}

/// Bob is online from before m3 until long after.
fn watched(doctor: impl FnOnce(&mut Run)) -> Vec<String> {
    broken_by(|run| {
        run.entries.insert(0, online(1, "bob/1"));
        run.entries.push(note(200 + PUSHED_WITHIN_US));
        doctor(run);
    })
}

fn way_of_m3(run: &mut Run, way: Way) {
    for entry in &mut run.entries {
        if let What::Received {
            event, way: known, ..
        } = &mut entry.what
            && event.seq == 3
        {
            *known = way;
        }
    }
}

#[test]
fn an_event_that_an_online_session_had_to_fetch_by_itself_is_found() {
    assert_eq!(watched(|_| {}), NOTHING);
    assert_eq!(watched(|run| way_of_m3(run, Way::Gap)), ["pushed"]);
    // Its push came late, a resync was told, or the session was away for a moment.
    let excused = |what: What| {
        watched(|run| {
            way_of_m3(run, Way::Gap);
            run.entries.insert(14, Entry { at_us: 89, what });
        })
    };
    let session = "bob/1".to_owned();
    let conversation = CONVERSATION.to_owned();
    assert_eq!(
        excused(What::Resync {
            session: session.clone()
        }),
        NOTHING
    );
    assert_eq!(
        excused(What::Offline {
            session: session.clone()
        }),
        NOTHING
    );
    let pushed = What::Pushed {
        session,
        conversation,
        seq: 3,
    };
    assert_eq!(excused(pushed), NOTHING);
}

#[test]
fn an_event_that_comes_only_at_the_end_is_found_unless_a_fault_was_in_the_way() {
    let late = |run: &mut Run| {
        run.entries
            .retain(|entry| !matches!(&entry.what, What::Received { event, .. } if event.seq == 3));
        run.entries.insert(14, ack(94, "m3", 3, false));
        run.entries
            .push(received(300 + PUSHED_WITHIN_US, event(3, "m3")));
    };
    assert_eq!(watched(late), ["pushed"]);
    let faulty = watched(|run| {
        late(run);
        run.entries.insert(14, fault(93, false));
        let last = run.entries.len() - 2;
        run.entries.insert(last, fault(400, true));
    });
    assert_eq!(faulty, NOTHING);
}
