//! The history, looked up by message and by conversation.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Entry, MessageKey, Run, SeenEvent, What};

/// An acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    pub at_us: u64,
    pub seq: u64,
    pub time_ms: i64,
    pub duplicate: bool,
}

/// All that is known of one message.
#[derive(Debug, Default)]
pub(super) struct Sent<'a> {
    /// When it first left.
    pub first_us: u64,
    /// The session that sent it first.
    pub first_session: &'a str,
    /// Digests of the payloads that attempts carried.
    pub digests: Vec<&'a str>,
    pub acks: Vec<Ack>,
    /// When attempts were answered with an error, or not at all.
    pub doubts_us: Vec<u64>,
    /// Payloads that were offered under a known id.
    pub probes: Vec<(&'a str, &'a str)>,
}

/// A run, indexed.
pub(super) struct Index<'a> {
    pub run: &'a Run,
    pub sent: BTreeMap<&'a MessageKey, Sent<'a>>,
    /// The longest log that anybody read at the end, by conversation. `ordered` makes sure that all are equal.
    pub logs: HashMap<&'a str, &'a [SeenEvent]>,
}

impl<'a> Index<'a> {
    pub(super) fn of(run: &'a Run) -> Self {
        let mut sent = BTreeMap::<&MessageKey, Sent<'_>>::new();
        for entry in &run.entries {
            index_entry(&mut sent, entry);
        }
        let mut logs = HashMap::<&str, &[SeenEvent]>::new();
        for log in &run.closing.logs {
            let known = logs.entry(&log.conversation).or_insert(&log.events);
            if log.events.len() > known.len() {
                *known = &log.events;
            }
        }
        Self { run, sent, logs }
    }

    /// The log of a conversation; empty if nobody read one.
    pub(super) fn log(&self, conversation: &str) -> &'a [SeenEvent] {
        self.logs.get(conversation).copied().unwrap_or_default()
    }

    /// The event with this seq.
    pub(super) fn event(&self, conversation: &str, seq: u64) -> Option<&'a SeenEvent> {
        self.log(conversation).iter().find(|event| event.seq == seq)
    }
}

fn index_entry<'a>(sent: &mut BTreeMap<&'a MessageKey, Sent<'a>>, entry: &'a Entry) {
    let at_us = entry.at_us;
    match &entry.what {
        What::Attempt {
            message,
            session,
            digest,
        } => {
            let known = sent.entry(message).or_insert_with(|| Sent {
                first_us: at_us,
                first_session: session,
                ..Sent::default()
            });
            if !known.digests.contains(&digest.as_str()) {
                known.digests.push(digest);
            }
        }
        What::Acknowledged {
            message,
            seq,
            time_ms,
            duplicate,
            ..
        } => {
            let ack = Ack {
                at_us,
                seq: *seq,
                time_ms: *time_ms,
                duplicate: *duplicate,
            };
            sent.entry(message).or_default().acks.push(ack);
        }
        What::Refused { message, .. } | What::Doubt { message, .. } => {
            sent.entry(message).or_default().doubts_us.push(at_us);
        }
        What::ConflictProbe {
            message,
            digest,
            code,
        } => {
            sent.entry(message).or_default().probes.push((digest, code));
        }
        What::Received { .. } | What::Marked { .. } | What::Head { .. } | What::Note { .. } => {}
    }
}
