//! P2, of those who write: what was acknowledged before another message left stands before it, whoever sent them; and what
//! one connection sent stands in the order in which it was sent.
//!
//! A retry may put a message behind later ones, but only in ways that the answers explain: an attempt of the later one that may
//! have stored it left when none of the earlier one's on the same connection had a place before it.

use std::collections::HashMap;

use super::index::{Attempt, End, Index, Sent};
use crate::history::SeenEvent;

/// A message that a connection left behind may be given up by its gateway after ten seconds, while a later one is still
/// tried. Until then no answer means that its place is kept.
const KEPT_US: u64 = 9_000_000;

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (conversation, log) in &index.logs {
        let sent: Vec<_> = log
            .iter()
            .filter_map(|event| Some((event, index.sent_of(conversation, event)?)))
            .collect();
        broken.extend(overtaken(conversation, &sent));
        broken.extend(out_of_order(conversation, &sent));
    }
    broken
}

/// What was acknowledged before another left.
fn overtaken(conversation: &str, sent: &[(&SeenEvent, &Sent<'_>)]) -> Vec<String> {
    let mut broken = Vec::new();
    // Of those behind: the one that was acknowledged first.
    let mut earliest: Option<(u64, &SeenEvent)> = None;
    for (event, known) in sent.iter().rev() {
        if let Some((acknowledged_us, behind)) = earliest
            && acknowledged_us < known.first_us
        {
            broken.push(format!(
                "{} of {} left {conversation} at {} µs and is stored as {}, before {} of {}, which is {} and was \
                 acknowledged by {acknowledged_us} µs",
                event.id, event.sender, known.first_us, event.seq, behind.id, behind.sender, behind.seq
            ));
        }
        let first = known.acks.iter().map(|ack| ack.at_us).min();
        if let Some(first) = first
            && earliest.is_none_or(|(known, _)| first < known)
        {
            earliest = Some((first, event));
        }
    }
    broken
}

/// What one session sent.
fn out_of_order(conversation: &str, sent: &[(&SeenEvent, &Sent<'_>)]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut before = HashMap::<&str, Vec<(&SeenEvent, &Sent<'_>)>>::new();
    let mut latest_us = HashMap::<&str, u64>::new();
    for (event, known) in sent {
        let session = known.first_session;
        let latest_us = latest_us.entry(session).or_default();
        let before = before.entry(session).or_default();
        if known.first_us < *latest_us {
            let unexplained = before
                .iter()
                .rev()
                .filter(|(_, later)| later.first_us > known.first_us)
                .find(|(_, later)| !is_explained(known, later));
            if let Some((later, _)) = unexplained {
                broken.push(format!(
                    "{} of {session} left {conversation} before {} and is stored behind it ({} after {})",
                    event.id, later.id, event.seq, later.seq
                ));
            }
        }
        *latest_us = known.first_us.max(*latest_us);
        before.push((event, known));
    }
    broken
}

/// Whether the later message may rightly stand before the earlier one.
fn is_explained(earlier: &Sent<'_>, later: &Sent<'_>) -> bool {
    let stored_by_us = later.acks.iter().map(|ack| ack.at_us).min();
    let may_be_it = later
        .attempts
        .iter()
        .filter(|attempt| attempt.may_have_stored());
    may_be_it.into_iter().any(|it| {
        !earlier
            .attempts
            .iter()
            .any(|other| has_its_place(other, it, stored_by_us))
    })
}

/// Whether this attempt must have been stored before the later one could be.
fn has_its_place(attempt: &Attempt<'_>, later: &Attempt<'_>, stored_by_us: Option<u64>) -> bool {
    let same = (attempt.session, attempt.connection) == (later.session, later.connection);
    same && attempt.place < later.place
        && match attempt.end {
            End::Acknowledged => true,
            End::NotStored | End::Unknown => false,
            End::Unanswered => stored_by_us.is_some_and(|by| by < attempt.at_us + KEPT_US),
        }
}
