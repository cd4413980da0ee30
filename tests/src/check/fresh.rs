//! A read that left after an acknowledgement had come sees what was acknowledged, also when it was answered by a
//! leader that had been paused.

use std::collections::HashMap;

use super::index::Index;
use crate::history::What;

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    // Acknowledgements by conversation, in the order in which they came, each with the highest seq so far.
    let mut acknowledged = HashMap::<&str, Vec<(u64, u64)>>::new();
    let mut broken = Vec::new();
    for entry in &index.run.entries {
        match &entry.what {
            What::Acknowledged { message, seq, .. } => {
                let acks = acknowledged.entry(&message.conversation).or_default();
                let highest = acks.last().map_or(*seq, |(_, highest)| *seq.max(highest));
                acks.push((entry.at_us, highest));
            }
            What::Head {
                session,
                conversation,
                invoked_us,
                head_seq,
            } => {
                let Some(acks) = acknowledged.get(conversation.as_str()) else {
                    continue;
                };
                let before = acks.partition_point(|(at_us, _)| at_us < invoked_us);
                let Some((at_us, seq)) = before.checked_sub(1).and_then(|last| acks.get(last))
                else {
                    continue;
                };
                if head_seq < seq {
                    broken.push(format!(
                        "{session} asked for {conversation} at {invoked_us} µs and was told head {head_seq}; \
                         seq {seq} had been acknowledged by {at_us} µs"
                    ));
                }
            }
            _ => {}
        }
    }
    broken
}
