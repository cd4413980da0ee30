//! Reads never go back: a read that left after somebody had been told something is not behind it, whoever answers, and
//! also if that was a leader once. Told is what was acknowledged, received, or read, by anybody.

use std::collections::{HashMap, HashSet};

use super::index::Index;
use crate::history::{SeenRow, What};

/// What was known when: rising values in the order of their times, each with who told.
#[derive(Default)]
struct Known<'a>(Vec<(u64, u64, &'a str)>);

impl<'a> Known<'a> {
    fn add(&mut self, at_us: u64, value: u64, who: &'a str) {
        if self.0.last().is_none_or(|(_, highest, _)| value > *highest) {
            self.0.push((at_us, value, who));
        }
    }

    /// The highest that was known before a moment.
    fn before(&self, at_us: u64) -> Option<(u64, u64, &'a str)> {
        let before = self.0.partition_point(|(at, ..)| *at < at_us);
        self.0.get(before.checked_sub(1)?).copied()
    }
}

#[derive(Default)]
struct Seen<'a> {
    heads: HashMap<&'a str, Known<'a>>,
    /// By user and conversation.
    cursors: HashMap<(&'a str, &'a str), Known<'a>>,
    /// When a conversation was first in its user's list.
    listed: HashMap<(&'a str, &'a str), u64>,
    broken: Vec<String>,
}

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut seen = Seen::default();
    for entry in &index.run.entries {
        seen.entry(entry.at_us, &entry.what);
    }
    seen.broken
}

impl<'a> Seen<'a> {
    fn entry(&mut self, at_us: u64, what: &'a What) {
        match what {
            What::Acknowledged {
                message,
                session,
                seq,
                ..
            } => self.knows(at_us, &message.conversation, *seq, session),
            What::Received {
                session,
                conversation,
                event,
                ..
            } => self.knows(at_us, conversation, event.seq, session),
            What::Pushed {
                session,
                conversation,
                seq,
            } => self.knows(at_us, conversation, *seq, session),
            What::Head {
                session: who,
                conversation,
                invoked_us,
                head_seq,
            }
            | What::Page {
                reader: who,
                conversation,
                invoked_us,
                head_seq,
                ..
            } => self.reads(at_us, *invoked_us, conversation, *head_seq, who),
            What::Marked {
                user,
                conversation,
                invoked_us,
                asked,
                read_seq,
            } => {
                if read_seq < asked {
                    self.broken.push(format!(
                        "{user} marked {conversation} as read up to {asked} and was told {read_seq}"
                    ));
                }
                self.cursor(at_us, *invoked_us, (user, conversation), *read_seq);
            }
            What::Listed {
                session,
                user,
                invoked_us,
                rows,
                whole,
            } => self.list(at_us, *invoked_us, (session, user), rows, *whole),
            _ => {}
        }
    }

    fn knows(&mut self, at_us: u64, conversation: &'a str, seq: u64, who: &'a str) {
        let known = self.heads.entry(conversation).or_default();
        known.add(at_us, seq, who);
    }

    fn reads(
        &mut self,
        at_us: u64,
        invoked_us: u64,
        conversation: &'a str,
        head_seq: u64,
        who: &'a str,
    ) {
        let known = self.heads.entry(conversation).or_default();
        if let Some((known_us, seq, by)) = known.before(invoked_us)
            && head_seq < seq
        {
            self.broken.push(format!(
                "{who} asked for {conversation} at {invoked_us} µs and was told head {head_seq}; \
                 {by} had been told seq {seq} by {known_us} µs"
            ));
        }
        known.add(at_us, head_seq, who);
    }

    fn cursor(&mut self, at_us: u64, invoked_us: u64, of: (&'a str, &'a str), read_seq: u64) {
        let known = self.cursors.entry(of).or_default();
        if let Some((known_us, seq, _)) = known.before(invoked_us)
            && read_seq < seq
        {
            let (user, conversation) = of;
            self.broken.push(format!(
                "{user} had read {conversation} up to {seq} by {known_us} µs, and was told {read_seq} for what was asked \
                 at {invoked_us} µs"
            ));
        }
        known.add(at_us, read_seq, of.0);
    }

    fn list(
        &mut self,
        at_us: u64,
        invoked_us: u64,
        (session, user): (&'a str, &'a str),
        rows: &'a [SeenRow],
        whole: bool,
    ) {
        for row in rows {
            self.reads(at_us, invoked_us, &row.conversation, row.head_seq, session);
            self.cursor(at_us, invoked_us, (user, &row.conversation), row.read_seq);
        }
        if whole {
            let has: HashSet<&str> = rows.iter().map(|row| row.conversation.as_str()).collect();
            let before = self.listed.iter().filter(|((of, conversation), at)| {
                *of == user && **at < invoked_us && !has.contains(conversation)
            });
            let gone: Vec<&str> = before.map(|((_, conversation), _)| *conversation).collect();
            if !gone.is_empty() {
                self.broken.push(format!(
                    "{session} asked for its list at {invoked_us} µs, and {gone:?} were in it no more"
                ));
            }
        }
        for row in rows {
            self.listed
                .entry((user, &row.conversation))
                .or_insert(at_us);
        }
    }
}
