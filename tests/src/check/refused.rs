//! What an answer says of a send is true. Every send of a load is valid: none is refused for good. What all answers say was
//! not stored is not there.

use super::index::{End, Index, Sent};

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (conversation, log) in &index.logs {
        for event in *log {
            let nothing_stored = |sent: &&Sent<'_>| {
                !sent.attempts.is_empty() && sent.attempts.iter().all(|a| a.end == End::NotStored)
            };
            if index
                .sent_of(conversation, event)
                .filter(nothing_stored)
                .is_some()
            {
                broken.push(format!(
                    "{} of {} is stored in {conversation} as {}, and all answers say that nothing was",
                    event.id, event.sender, event.seq
                ));
            }
        }
    }
    for (message, sent) in &index.sent {
        let refusals = sent.refusals.iter();
        broken.extend(
            refusals.map(|code| format!("{message:?} is valid, and was refused for good: {code}")),
        );
    }
    broken
}
