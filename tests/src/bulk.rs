//! Large shards: many bytes in conversations that nobody chats in, so that moving and splitting takes its time. No two texts are
//! alike, so that no disk and no network has less to do than it seems. They are not in the history; that they are whole is seen from the replicas' digests, and from the heads at the end.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::future::try_join_all;
use parlance_client::text_to;
use parlance_proto::client::v1::client_frame::Body as Ask;
use parlance_proto::client::v1::server_frame::Body as Answer;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::client::{CALL_TIMEOUT, Connection, history_forward};
use crate::direct;
use crate::token::Signer;

/// Who writes, each to one reader.
const WRITERS: usize = 16;
const READER: &str = "bulk-reader";
/// A little below what a message may have.
const MESSAGE_BYTES: usize = 30_000;
/// Messages of one writer without an answer.
const OPEN_MAX: usize = 16;
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What was written.
pub struct Bulk {
    /// Messages of each writer.
    each: u64,
}

impl Bulk {
    /// Writes at least so many bytes, through all gateways.
    pub async fn write(gateways: &[String], signer: &Signer, bytes: u64) -> Result<Self> {
        let each = bytes.div_ceil((WRITERS * MESSAGE_BYTES) as u64);
        let writers = (0..WRITERS).map(|number| {
            let gateway = &gateways[number % gateways.len()];
            write(gateway, signer, number, each)
        });
        if each > 0 {
            try_join_all(writers).await?;
        }
        Ok(Self { each })
    }

    /// All of it is there, and nothing twice.
    pub async fn check(&self, gateways: &[String], signer: &Signer) -> Result<()> {
        for gateway in gateways.iter().filter(|_| self.each > 0) {
            let mut reader = Connection::logged_in(gateway, &signer.token(READER)).await?;
            for number in 0..WRITERS {
                let conversation = direct::between(&writer(number), READER)?;
                let page = reader
                    .history(history_forward(&conversation, self.each))
                    .await?;
                ensure!(
                    page.head_seq == self.each && page.events.len() == 1,
                    "{conversation} ends at {} of {}",
                    page.head_seq,
                    self.each
                );
            }
            reader.close().await;
        }
        Ok(())
    }
}

fn writer(number: usize) -> String {
    format!("bulk{number}")
}

async fn write(gateway: &str, signer: &Signer, number: usize, count: u64) -> Result<()> {
    let mut connection = Connection::logged_in(gateway, &signer.token(&writer(number))).await?;
    let texts = Texts::new(number as u64);
    let (mut next, mut open) = (0, std::collections::HashMap::new());
    let mut again = Vec::new();
    while next < count || !open.is_empty() || !again.is_empty() {
        while open.len() < OPEN_MAX && (next < count || !again.is_empty()) {
            let message = again.pop().unwrap_or_else(|| {
                next += 1;
                next
            });
            let text = texts.of(message);
            let ask = Ask::Send(text_to(READER, message.to_string(), text));
            open.insert(connection.submit(ask).await?, message);
        }
        let frame = connection.next_within(CALL_TIMEOUT).await?;
        let Some(message) = open.remove(&frame.request_id) else {
            continue;
        };
        match frame.body {
            Some(Answer::Send(_)) => {}
            Some(Answer::Error(error)) if error.is_retryable() => {
                again.push(message);
                sleep(RETRY_AFTER).await;
            }
            other => bail!("{other:?}"),
        }
    }
    connection.close().await;
    Ok(())
}

/// Pieces of one long text of chance, each message another one and always the same.
struct Texts {
    seed: u64,
    long: String,
}

impl Texts {
    fn new(seed: u64) -> Self {
        let long = Alphanumeric.sample_string(&mut StdRng::seed_from_u64(seed), 4 << 20);
        Self { seed, long }
    }

    fn of(&self, message: u64) -> &str {
        let mut rng = StdRng::seed_from_u64(self.seed << 32 | message);
        let from = rng.random_range(0..self.long.len() - MESSAGE_BYTES);
        self.long
            .get(from..from + MESSAGE_BYTES)
            .unwrap_or_default()
    }
}
