//! P2: a conversation is one log without gaps, the same for every reader; one sender's messages keep their order.

use std::collections::HashMap;

use super::index::{Index, Sent};
use crate::history::{MessageKey, SeenEvent, What};

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut broken = contiguous(index);
    broken.extend(one_order(index));
    broken.extend(received_in_order(index));
    broken.extend(sender_order(index));
    broken
}

fn contiguous(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for log in &index.run.closing.logs {
        let expected = 1..=log.events.len() as u64;
        if !log.events.iter().map(|event| event.seq).eq(expected) {
            let seqs: Vec<u64> = log.events.iter().map(|event| event.seq).collect();
            let fault = seqs.windows(2).find(|pair| pair[0] + 1 != pair[1]);
            broken.push(format!(
                "{} reads {} through {} with a gap: starts at {:?}, breaks at {fault:?}",
                log.reader,
                log.conversation,
                log.gateway,
                seqs.first()
            ));
        }
    }
    broken
}

fn one_order(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for log in &index.run.closing.logs {
        let reference = index.log(&log.conversation);
        if log.events != reference {
            let at = log.events.iter().zip(reference).position(|(a, b)| a != b);
            broken.push(format!(
                "{} through {} reads another {}: {} events against {}, first difference at index {at:?}",
                log.reader,
                log.gateway,
                log.conversation,
                log.events.len(),
                reference.len()
            ));
        }
    }
    broken
}

fn received_in_order(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    let mut last = HashMap::<(&str, &str), u64>::new();
    for entry in &index.run.entries {
        let What::Received {
            session,
            conversation,
            event,
            ..
        } = &entry.what
        else {
            continue;
        };
        let last = last.entry((session, conversation)).or_default();
        if event.seq != *last + 1 {
            broken.push(format!(
                "{session} received seq {} of {conversation} after {last}",
                event.seq
            ));
        }
        *last = event.seq;
        if let Some(stored) = index.event(conversation, event.seq)
            && stored != event
        {
            broken.push(format!(
                "{session} received {event:?} of {conversation}, stored is {stored:?}"
            ));
        }
    }
    broken
}

/// For two messages of one session to one conversation: the one that left first comes first. Unless the first was
/// answered with an error after the second had left: then the client put it behind by its retry.
fn sender_order(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (conversation, log) in &index.logs {
        let mut latest = HashMap::<&str, (&SeenEvent, &Sent<'_>)>::new();
        for event in *log {
            let key = MessageKey {
                conversation: (*conversation).to_owned(),
                sender: event.sender.clone(),
                id: event.id.clone(),
            };
            let Some(sent) = index.sent.get(&key) else {
                continue;
            };
            let (latest_event, latest_sent) =
                latest.entry(sent.first_session).or_insert((event, sent));
            if sent.first_us < latest_sent.first_us {
                let excused = sent
                    .doubts_us
                    .iter()
                    .any(|doubt| *doubt > latest_sent.first_us);
                if !excused {
                    broken.push(format!(
                        "{key:?} left before {} and is stored behind it ({} after {})",
                        latest_event.id, event.seq, latest_event.seq
                    ));
                }
            } else {
                (*latest_event, *latest_sent) = (event, sent);
            }
        }
    }
    broken
}
