//! Flushes of the state store, which all shards of a node ask for.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Lets those who want a flush at the same time share one.
#[derive(Default)]
pub(super) struct Flushes {
    begun: AtomicU64,
    /// The number of the last one that succeeded.
    finished: Mutex<u64>,
}

impl Flushes {
    /// What was written before this call wants a flush that begins after it.
    pub(super) fn ticket(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Runs `flush`, unless one that began after the ticket was drawn has succeeded.
    pub(super) fn share<E>(
        &self,
        ticket: u64,
        flush: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut finished = self.finished.lock();
        if *finished > ticket {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        flush()?;
        *finished = number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_shared_by_those_who_asked_before_it_began_and_a_failed_one_by_nobody() {
        let flushes = Flushes::default();
        let mut runs = Vec::new();
        let mut share = |ticket, result| {
            let mut ran = false;
            let shared = flushes.share(ticket, || {
                ran = true;
                result
            });
            runs.push(ran);
            shared
        };
        let tickets = [flushes.ticket(); 3];
        assert!(share(tickets[0], Err("disk")).is_err());
        assert!(share(tickets[1], Ok(())).is_ok());
        assert!(share(tickets[2], Ok(())).is_ok());
        assert!(share(flushes.ticket(), Ok(())).is_ok());
        assert_eq!(runs, [true, true, false, true]);
    }
}
