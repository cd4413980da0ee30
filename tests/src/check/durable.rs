//! P1: what was acknowledged is there, where and as the acknowledgement said; a moved read cursor stays moved.

use std::collections::HashMap;

use super::index::Index;
use crate::history::What;

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (message, sent) in &index.sent {
        for ack in &sent.acks {
            let Some(event) = index.event(&message.conversation, ack.seq) else {
                broken.push(format!(
                    "{message:?} was acknowledged as seq {} and is lost",
                    ack.seq
                ));
                continue;
            };
            if event.sender != message.sender || event.id != message.id {
                broken.push(format!(
                    "{message:?} was acknowledged as seq {}, where now is {event:?}",
                    ack.seq
                ));
            } else if !sent.digests.contains(&event.digest.as_str()) {
                broken.push(format!(
                    "{message:?} is stored with another text than was sent"
                ));
            } else if event.time_ms != ack.time_ms {
                broken.push(format!(
                    "{message:?}: time {} became {}",
                    ack.time_ms, event.time_ms
                ));
            }
        }
    }
    broken.extend(cursors(index));
    broken
}

fn cursors(index: &Index<'_>) -> Vec<String> {
    let mut marked = HashMap::<(&str, &str), u64>::new();
    for entry in &index.run.entries {
        if let What::Marked {
            user,
            conversation,
            read_seq,
            ..
        } = &entry.what
        {
            let highest = marked.entry((user, conversation)).or_default();
            *highest = (*highest).max(*read_seq);
        }
    }
    let rows = index.run.closing.rows.iter();
    rows.filter_map(|row| {
        let acknowledged = *marked.get(&(row.user.as_str(), row.conversation.as_str()))?;
        (row.read_seq < acknowledged).then(|| {
            format!(
                "{} had read {} up to {acknowledged}, now up to {}",
                row.user, row.conversation, row.read_seq
            )
        })
    })
    .collect()
}
