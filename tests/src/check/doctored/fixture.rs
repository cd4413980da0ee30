//! A small good history, and what it takes to doctor it.

use crate::check::all;
use crate::history::{
    Closing, Entry, ListRow, MessageKey, OnlineSession, ReaderLog, ReplicaDigest, Run, SeenEvent,
    SeenRow, Way, What, text_digest,
};

pub(super) const CONVERSATION: &str = "d:5:alice:bob";

pub(super) fn key(id: &str) -> MessageKey {
    MessageKey {
        conversation: CONVERSATION.into(),
        sender: "alice".into(),
        id: id.into(),
    }
}

pub(super) fn event(seq: u64, id: &str) -> SeenEvent {
    SeenEvent {
        seq,
        time_ms: 1000 + seq as i64,
        sender: "alice".into(),
        id: id.into(),
        digest: text_digest(id),
    }
}

pub(super) fn attempt(at_us: u64, id: &str) -> Entry {
    Entry {
        at_us,
        what: What::Attempt {
            message: key(id),
            session: "alice/1".into(),
            connection: 1,
            digest: text_digest(id),
        },
    }
}

/// The attempt is answered with an error, or its connection ends (no code).
pub(super) fn doubt(at_us: u64, id: &str, code: &str) -> Entry {
    let what = What::Doubt {
        message: key(id),
        session: "alice/1".into(),
        code: code.into(),
        reason: String::new(),
    };
    Entry { at_us, what }
}

pub(super) fn online(at_us: u64, session: &str) -> Entry {
    let (session, user) = (session.to_owned(), session[..session.len() - 2].to_owned());
    let what = What::Online { session, user };
    Entry { at_us, what }
}

pub(super) fn fault(at_us: u64, over: bool) -> Entry {
    let name = "a fault".to_owned();
    let what = What::Fault { name, over };
    Entry { at_us, what }
}

pub(super) fn note(at_us: u64) -> Entry {
    let text = "still here".to_owned();
    let what = What::Note { text };
    Entry { at_us, what }
}

pub(super) fn ack(at_us: u64, id: &str, seq: u64, duplicate: bool) -> Entry {
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

pub(super) fn received(at_us: u64, event: SeenEvent) -> Entry {
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

pub(super) fn log(reader: &str, gateway: &str) -> ReaderLog {
    let events = vec![event(1, "m1"), event(2, "m2"), event(3, "m3")];
    ReaderLog {
        reader: reader.into(),
        gateway: gateway.into(),
        conversation: CONVERSATION.into(),
        events,
    }
}

pub(super) fn row(user: &str, gateway: &str, read_seq: u64, unread_count: u64) -> ListRow {
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

pub(super) fn replica(node_id: u64) -> ReplicaDigest {
    ReplicaDigest {
        node_id,
        shard: 0,
        applied: 7,
        digest: "aa".into(),
        rows: 9,
    }
}

/// Three messages of alice to bob: m1 acknowledged, m2 after a retry, m3 never answered but stored.
pub(super) fn good() -> Run {
    let [marked, head, probe] = answers();
    let [listed, page] = reads();
    let entries = vec![
        attempt(10, "m1"),
        ack(20, "m1", 1, false),
        received(25, event(1, "m1")),
        attempt(30, "m2"),
        doubt(40, "m2", ""),
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
        Entry {
            at_us: 91,
            what: listed,
        },
        Entry {
            at_us: 92,
            what: page,
        },
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

fn answers() -> [What; 3] {
    let marked = What::Marked {
        user: "bob".into(),
        conversation: CONVERSATION.into(),
        invoked_us: 64,
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
    [marked, head, probe]
}

fn reads() -> [What; 2] {
    let listed = What::Listed {
        session: "bob/1".into(),
        user: "bob".into(),
        invoked_us: 70,
        rows: vec![SeenRow {
            conversation: CONVERSATION.into(),
            head_seq: 2,
            read_seq: 2,
            unread_count: 0,
        }],
        whole: true,
    };
    let page = What::Page {
        reader: "reader at node 1".into(),
        conversation: CONVERSATION.into(),
        invoked_us: 81,
        head_seq: 3,
        start_seq: 2,
        events: vec![event(2, "m2"), event(3, "m3")],
        more: false,
    };
    [listed, page]
}

/// Which promises the checker finds broken after a change to the good run.
pub(super) fn broken_by(doctor: impl FnOnce(&mut Run)) -> Vec<String> {
    let mut run = good();
    doctor(&mut run);
    let mut promises: Vec<String> = all(&run)
        .into_iter()
        .map(|violation| violation.promise)
        .collect();
    promises.dedup();
    promises
}

pub(super) fn each_log(run: &mut Run, change: impl Fn(&mut Vec<SeenEvent>)) {
    run.closing
        .logs
        .iter_mut()
        .for_each(|log| change(&mut log.events));
}
