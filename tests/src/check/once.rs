//! P3: one client message id is one event, whatever was retried where; nothing is stored that nobody sent.

use std::collections::{HashMap, HashSet};

use super::index::{Index, Sent};
use crate::history::{MessageKey, What};

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut broken = stored(index);
    for (message, sent) in &index.sent {
        broken.extend(answers(message, sent));
    }
    broken.extend(received(index));
    broken
}

fn stored(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (conversation, log) in &index.logs {
        let mut seen = HashMap::<(&str, &str), u64>::new();
        for event in *log {
            if let Some(first) = seen.insert((&event.sender, &event.id), event.seq) {
                broken.push(format!(
                    "{} of {} is in {conversation} as {first} and as {}",
                    event.id, event.sender, event.seq
                ));
            }
            let key = MessageKey {
                conversation: (*conversation).to_owned(),
                sender: event.sender.clone(),
                id: event.id.clone(),
            };
            match index.sent.get(&key) {
                None => broken.push(format!(
                    "{key:?} is stored as {} and was never sent",
                    event.seq
                )),
                Some(sent)
                    if sent
                        .probes
                        .iter()
                        .any(|(digest, _)| *digest == event.digest) =>
                {
                    broken.push(format!("{key:?} is stored with the second payload"));
                }
                Some(_) => {}
            }
        }
    }
    broken
}

fn answers(message: &MessageKey, sent: &Sent<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    if let Some(first) = sent.acks.first() {
        for other in &sent.acks {
            if (other.seq, other.time_ms) != (first.seq, first.time_ms) {
                broken.push(format!(
                    "{message:?} was acknowledged as {} and as {}",
                    first.seq, other.seq
                ));
            }
        }
    }
    if sent.acks.iter().filter(|ack| !ack.duplicate).count() > 1 {
        broken.push(format!(
            "{message:?}: two answers say that they stored it first"
        ));
    }
    for (_, code) in &sent.probes {
        if *code != "conflict" {
            broken.push(format!(
                "{message:?} sent again with another payload was answered with {code}"
            ));
        }
    }
    broken
}

fn received(index: &Index<'_>) -> Vec<String> {
    let mut seen = HashSet::new();
    let entries = index.run.entries.iter();
    entries
        .filter_map(|entry| match &entry.what {
            What::Received {
                session,
                conversation,
                event,
                ..
            } => Some((session, conversation, event.seq)),
            _ => None,
        })
        .filter(|received| !seen.insert(*received))
        .map(|(session, conversation, seq)| {
            format!("{session} received seq {seq} of {conversation} twice")
        })
        .collect()
}
