//! P4 while it happens: what is stored while a session is online comes to it by a push, without its help, or it is told
//! to resync; at the latest some time after the faults that were in the way.

use std::collections::HashMap;

use super::index::{Index, Sent};
use crate::direct;
use crate::history::{SeenEvent, Way, What};

/// How long after an event was stored, and after the faults of that time, it may take. Longer than a gateway takes to notice
/// a broken link, and a relay to be sent again.
pub const PUSHED_WITHIN_US: u64 = 15_000_000;

/// What came to one session, and when.
#[derive(Default)]
struct Came<'a> {
    user: &'a str,
    /// From when to when it was online.
    online: Vec<(u64, u64)>,
    resyncs: Vec<u64>,
    received: HashMap<(&'a str, u64), u64>,
    pushed: HashMap<(&'a str, u64), u64>,
}

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let end_us = index.run.entries.last().map_or(0, |entry| entry.at_us);
    let sessions = sessions(index, end_us);
    let faults = faults(index, end_us);
    let first_seen = first_seen(index);
    let mut broken = Vec::new();
    for (conversation, log) in &index.logs {
        let members: Vec<_> = sessions
            .iter()
            .filter(|(_, came)| direct::peer(conversation, came.user).is_some())
            .collect();
        for event in *log {
            let Some(sent) = index.sent_of(conversation, event) else {
                continue;
            };
            let acknowledged = sent.acks.iter().map(|ack| ack.at_us).min();
            let seen = first_seen.get(&(*conversation, event.seq)).copied();
            let Some(stored_us) = acknowledged.into_iter().chain(seen).min() else {
                continue;
            };
            let due_us = due(stored_us, &faults);
            for (session, came) in &members {
                let span = (sent.first_us, due_us);
                if let Some(why) = lacks(came, session, sent, (conversation, event), span) {
                    broken.push(why);
                }
            }
        }
    }
    broken
}

fn lacks(
    came: &Came<'_>,
    session: &str,
    sent: &Sent<'_>,
    (conversation, event): (&str, &SeenEvent),
    (begun_us, due_us): (u64, u64),
) -> Option<String> {
    let own = sent
        .attempts
        .iter()
        .any(|attempt| attempt.session == session);
    let through = came
        .online
        .iter()
        .any(|(from, to)| *from <= begun_us && due_us <= *to);
    if own || !through {
        return None;
    }
    let place = (conversation, event.seq);
    let in_time =
        |came: &HashMap<(&str, u64), u64>| came.get(&place).is_some_and(|at| *at <= due_us);
    let resynced = came
        .resyncs
        .iter()
        .any(|at| (begun_us..=due_us).contains(at));
    let what = if !in_time(&came.received) {
        "did not receive"
    } else if !in_time(&came.pushed) && !resynced {
        "had to fetch, without being told to,"
    } else {
        return None;
    };
    Some(format!(
        "{session}, online all the while, {what} seq {} of {conversation}, which left at {begun_us} µs and was due by {due_us} µs",
        event.seq
    ))
}

/// By when an event that was stored then must have come: faults that begin before that put it off.
fn due(stored_us: u64, faults: &[(u64, u64)]) -> u64 {
    let mut from_us = stored_us;
    for (begun_us, over_us) in faults {
        if *begun_us <= from_us + PUSHED_WITHIN_US && *over_us > from_us {
            from_us = *over_us;
        }
    }
    from_us + PUSHED_WITHIN_US
}

fn sessions<'a>(index: &Index<'a>, end_us: u64) -> HashMap<&'a str, Came<'a>> {
    let mut sessions = HashMap::<&str, Came<'_>>::new();
    for entry in &index.run.entries {
        let at_us = entry.at_us;
        match &entry.what {
            What::Online { session, user } => {
                let came = sessions.entry(session).or_default();
                came.user = user;
                came.online.push((at_us, end_us));
            }
            What::Offline { session } => {
                let came = sessions.entry(session).or_default();
                came.online
                    .last_mut()
                    .into_iter()
                    .for_each(|span| span.1 = at_us);
            }
            What::Resync { session } => sessions.entry(session).or_default().resyncs.push(at_us),
            What::Pushed {
                session,
                conversation,
                seq,
            } => {
                let came = sessions.entry(session).or_default();
                came.pushed.entry((conversation, *seq)).or_insert(at_us);
            }
            What::Received {
                session,
                conversation,
                event,
                way,
                ..
            } => {
                let came = sessions.entry(session).or_default();
                let place = (conversation.as_str(), event.seq);
                came.received.entry(place).or_insert(at_us);
                if *way == Way::Push {
                    came.pushed.entry(place).or_insert(at_us);
                }
            }
            _ => {}
        }
    }
    sessions
}

/// From when to when, in the order in which they began.
fn faults(index: &Index<'_>, end_us: u64) -> Vec<(u64, u64)> {
    let mut faults = Vec::<(u64, u64)>::new();
    let mut open = HashMap::<&str, usize>::new();
    for entry in &index.run.entries {
        if let What::Fault { name, over } = &entry.what {
            if !over {
                open.insert(name, faults.len());
                faults.push((entry.at_us, end_us));
            } else if let Some(fault) = open.remove(name.as_str()).and_then(|at| faults.get_mut(at))
            {
                fault.1 = entry.at_us;
            }
        }
    }
    faults
}

/// When anybody had an event first.
fn first_seen<'a>(index: &Index<'a>) -> HashMap<(&'a str, u64), u64> {
    let mut first = HashMap::new();
    for entry in &index.run.entries {
        if let What::Received {
            conversation,
            event,
            ..
        } = &entry.what
        {
            let place = (conversation.as_str(), event.seq);
            first.entry(place).or_insert(entry.at_us);
        }
    }
    first
}
