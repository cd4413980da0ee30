//! Waiting for a condition, never for a time: with a deadline, and with the last state in the error.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep};

/// How long to rest between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `probe` is content. Its errors say what is still missing; the last one is
/// in the error when the time is up.
pub async fn until<T, F>(what: &str, within: Duration, mut probe: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    let deadline = Instant::now() + within;
    loop {
        let last = match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("the probe itself did not end"),
        };
        if Instant::now() + PAUSE >= deadline {
            return Err(last.context(format!("not reached within {within:?}: {what}")));
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_carries_the_goal_and_the_last_state() {
        let mut looks = 0;
        let error = until("the moon is full", Duration::from_millis(200), async || {
            looks += 1;
            Err::<(), _>(anyhow!("look {looks}: half"))
        })
        .await
        .unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("the moon is full") && text.contains("half"),
            "{text}"
        );
    }
}
