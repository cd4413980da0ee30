//! What the code under test logs in this process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::subscriber::DefaultGuard;

const SOON: Duration = Duration::from_secs(60);

/// The lines of one thread's log, of level `info` and above. Cheap to clone.
#[derive(Clone, Default)]
pub struct LogLines {
    lines: Arc<Mutex<Vec<String>>>,
    added: Arc<Notify>,
}

impl LogLines {
    /// Takes what this thread logs from now on, until the answer is dropped.
    pub fn install(&self) -> DefaultGuard {
        let to = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || to.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Those with this text.
    pub fn with(&self, text: &str) -> Vec<String> {
        let lines = self.lines.lock();
        lines.iter().filter(|l| l.contains(text)).cloned().collect()
    }

    /// Waits until so many lines have this text; answers the last of them. `None` if that takes too long.
    pub async fn nth(&self, count: usize, text: &str) -> Option<String> {
        let waiting = async {
            loop {
                let added = self.added.notified();
                if let Some(line) = count
                    .checked_sub(1)
                    .and_then(|at| self.with(text).get(at).cloned())
                {
                    return line;
                }
                added.await;
            }
        };
        timeout(SOON, waiting).await.ok()
    }
}

impl io::Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        self.lines.lock().push(text);
        self.added.notify_waiters();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
