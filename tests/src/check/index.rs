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

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Not at all: its connection broke, or the run was over first.
    Unanswered,
    Acknowledged,
    /// An error that says that nothing was stored by it.
    NotStored,
    /// An error that leaves it open.
    Unknown,
}

/// One send on its way.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    /// Its place in the history.
    pub place: usize,
    pub at_us: u64,
    pub session: &'a str,
    pub connection: u64,
    pub end: End,
    open: bool,
}

impl Attempt<'_> {
    pub(super) fn may_have_stored(&self) -> bool {
        self.end != End::NotStored
    }
}

/// All that is known of one message.
#[derive(Debug, Default)]
pub(super) struct Sent<'a> {
    /// When it first left.
    pub first_us: u64,
    /// The session that sent it first.
    pub first_session: &'a str,
    pub attempts: Vec<Attempt<'a>>,
    /// Digests of the payloads that attempts carried.
    pub digests: Vec<&'a str>,
    pub acks: Vec<Ack>,
    /// Final errors, by code.
    pub refusals: Vec<&'a str>,
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
        for (place, entry) in run.entries.iter().enumerate() {
            index_entry(&mut sent, place, entry);
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
        let log = self.log(conversation);
        let place = usize::try_from(seq.checked_sub(1)?).ok()?;
        // In a log without gaps it stands at its place.
        let there = log.get(place).filter(|event| event.seq == seq);
        there.or_else(|| log.iter().find(|event| event.seq == seq))
    }

    /// What is known of an event's message.
    pub(super) fn sent_of(&self, conversation: &str, event: &SeenEvent) -> Option<&Sent<'a>> {
        let key = MessageKey {
            conversation: conversation.to_owned(),
            sender: event.sender.clone(),
            id: event.id.clone(),
        };
        self.sent.get(&key)
    }
}

impl Sent<'_> {
    /// The session's open attempt has ended.
    fn end(&mut self, session: &str, end: End) {
        let mut attempts = self.attempts.iter_mut().rev();
        if let Some(open) = attempts.find(|attempt| attempt.open && attempt.session == session) {
            (open.open, open.end) = (false, end);
        }
    }
}

/// What an error says of the attempt that it answers.
fn end_of(code: &str) -> End {
    match code {
        "" => End::Unanswered,
        "unavailable" | "overloaded" | "shutting_down" => End::NotStored,
        _ => End::Unknown,
    }
}

fn index_entry<'a>(sent: &mut BTreeMap<&'a MessageKey, Sent<'a>>, place: usize, entry: &'a Entry) {
    let at_us = entry.at_us;
    match &entry.what {
        What::Attempt {
            message,
            session,
            connection,
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
            known.attempts.push(Attempt {
                place,
                at_us,
                session,
                connection: *connection,
                end: End::Unanswered,
                open: true,
            });
        }
        What::Acknowledged {
            message,
            session,
            seq,
            time_ms,
            duplicate,
        } => {
            let ack = Ack {
                at_us,
                seq: *seq,
                time_ms: *time_ms,
                duplicate: *duplicate,
            };
            let sent = sent.entry(message).or_default();
            sent.acks.push(ack);
            sent.end(session, End::Acknowledged);
        }
        What::Refused {
            message,
            session,
            code,
        } => {
            let sent = sent.entry(message).or_default();
            sent.refusals.push(code);
            sent.end(session, End::NotStored);
        }
        What::Doubt {
            message,
            session,
            code,
            ..
        } => sent.entry(message).or_default().end(session, end_of(code)),
        What::ConflictProbe {
            message,
            digest,
            code,
        } => {
            sent.entry(message).or_default().probes.push((digest, code));
        }
        _ => {}
    }
}
