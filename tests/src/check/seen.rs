//! P1 for readers: what anybody was told stays. Every event that was received or read is in the log as it was, and no
//! head was ahead of it. A page has what it says it has.

use super::index::Index;
use crate::history::{SeenEvent, What};

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for entry in &index.run.entries {
        match &entry.what {
            What::Received {
                session,
                conversation,
                event,
                ..
            } => broken.extend(stays(index, session, conversation, event)),
            What::Pushed {
                session,
                conversation,
                seq,
            } if index.event(conversation, *seq).is_none() => {
                broken.push(format!(
                    "{session} was pushed seq {seq} of {conversation}, which is not in the log"
                ));
            }
            What::Head {
                session,
                conversation,
                head_seq,
                ..
            } => broken.extend(head(index, session, conversation, *head_seq)),
            What::Page {
                reader,
                conversation,
                head_seq,
                start_seq,
                events,
                more,
                ..
            } => {
                broken.extend(head(index, reader, conversation, *head_seq));
                for event in events {
                    broken.extend(stays(index, reader, conversation, event));
                }
                if !is_whole(*start_seq, *head_seq, events, *more) {
                    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
                    broken.push(format!(
                        "{reader} asked for {conversation} from {start_seq} and got {seqs:?}, more: {more}, head {head_seq}"
                    ));
                }
            }
            What::Listed { session, rows, .. } => {
                for row in rows {
                    broken.extend(head(index, session, &row.conversation, row.head_seq));
                }
            }
            _ => {}
        }
    }
    broken
}

fn stays(index: &Index<'_>, who: &str, conversation: &str, event: &SeenEvent) -> Option<String> {
    match index.event(conversation, event.seq) {
        Some(stored) if stored == event => None,
        Some(stored) => Some(format!(
            "{who} was given {event:?} of {conversation}, stored is {stored:?}"
        )),
        None => Some(format!(
            "{who} was given {event:?} of {conversation}, which is not in the log"
        )),
    }
}

fn head(index: &Index<'_>, who: &str, conversation: &str, head_seq: u64) -> Option<String> {
    let end = index.log(conversation).last().map_or(0, |event| event.seq);
    (head_seq > end)
        .then(|| format!("{who} was told that {conversation} ends at {head_seq}; it ends at {end}"))
}

/// From where it was asked for without gaps, up to the head or with more to come.
fn is_whole(start_seq: u64, head_seq: u64, events: &[SeenEvent], more: bool) -> bool {
    let first = start_seq.max(1);
    let last = first + events.len() as u64;
    let contiguous = events.iter().map(|event| event.seq).eq(first..last);
    contiguous && (more || last > head_seq) && last <= head_seq.max(first.saturating_sub(1)) + 1
}
