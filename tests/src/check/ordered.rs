//! P2: a conversation is one log without gaps, the same for every reader; one sender's messages keep their order.

use std::collections::HashMap;

use super::index::Index;
use super::sender_order;
use crate::history::What;

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut broken = contiguous(index);
    broken.extend(one_order(index));
    broken.extend(received_in_order(index));
    broken.extend(sender_order::check(index));
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
    }
    broken
}
