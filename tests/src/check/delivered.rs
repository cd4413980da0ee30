//! P4: a session that is online when all is quiet has every event of every conversation of its user.

use std::collections::{HashMap, HashSet};

use super::index::Index;
use crate::direct;
use crate::history::What;

pub(super) fn check(index: &Index<'_>) -> Vec<String> {
    let mut has = HashMap::<&str, HashSet<(&str, u64)>>::new();
    for entry in &index.run.entries {
        if let What::Received {
            session,
            conversation,
            event,
            ..
        } = &entry.what
        {
            has.entry(session)
                .or_default()
                .insert((conversation, event.seq));
        }
    }
    let nothing = HashSet::new();
    let mut broken = Vec::new();
    for online in &index.run.closing.online {
        let has = has.get(online.session.as_str()).unwrap_or(&nothing);
        for (conversation, log) in &index.logs {
            if direct::peer(conversation, &online.user).is_none() {
                continue;
            }
            let missing: Vec<u64> = log
                .iter()
                .map(|event| event.seq)
                .filter(|seq| !has.contains(&(*conversation, *seq)))
                .collect();
            if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
                broken.push(format!(
                    "{} never received {} events of {conversation}, from seq {first} to {last}, head {}",
                    online.session,
                    missing.len(),
                    log.len()
                ));
            }
        }
    }
    broken
}
