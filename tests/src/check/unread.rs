//! Unread counts equal a recount: messages of others behind the read cursor. Heads equal the log.

use super::index::Index;
use crate::history::What;

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for row in &index.run.closing.rows {
        let log = index.log(&row.conversation);
        let recount = log
            .iter()
            .filter(|event| event.seq > row.read_seq && event.sender != row.user)
            .count() as u64;
        if row.unread_count != recount {
            broken.push(format!(
                "{} through {}: {} has unread_count {}, a recount behind {} gives {recount}",
                row.user, row.gateway, row.conversation, row.unread_count, row.read_seq
            ));
        }
        if row.head_seq != log.len() as u64 {
            broken.push(format!(
                "{} through {}: {} has head_seq {}, the log ends at {}",
                row.user,
                row.gateway,
                row.conversation,
                row.head_seq,
                log.len()
            ));
        }
    }
    broken.extend(missing_rows(index));
    broken.extend(on_the_way(index));
    broken
}

/// A row that was read during the run is one picture: its count is that of its own head and cursor.
fn on_the_way(index: &Index<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for entry in &index.run.entries {
        let What::Listed {
            session,
            user,
            rows,
            ..
        } = &entry.what
        else {
            continue;
        };
        for row in rows {
            let log = index.log(&row.conversation).iter();
            let recount = log
                .filter(|event| event.seq > row.read_seq && event.seq <= row.head_seq)
                .filter(|event| event.sender != *user)
                .count() as u64;
            if row.unread_count != recount {
                broken.push(format!(
                    "{session} was told of {row:?} at {} µs; a recount gives {recount}",
                    entry.at_us
                ));
            }
        }
    }
    broken
}

/// Every conversation is in the list of both its users, through every gateway that a log was read through.
fn missing_rows(index: &Index<'_>) -> Vec<String> {
    let closing = &index.run.closing;
    let logs = closing.logs.iter().filter(|log| !log.events.is_empty());
    logs.filter(|log| {
        !closing.rows.iter().any(|row| {
            row.user == log.reader
                && row.gateway == log.gateway
                && row.conversation == log.conversation
        })
    })
    .map(|log| {
        format!(
            "{} is not in the list of {} through {}",
            log.conversation, log.reader, log.gateway
        )
    })
    .collect()
}
