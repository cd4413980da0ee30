//! Two users who chat while another floods their gateway: how long each message takes, and that each arrives.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::client::v1::server_frame::Body as Answer;
use parlance_tests::client::{Connection, history_forward};
use parlance_tests::token::Signer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const CONVERSATION: &str = "d:7:anna.by:bert.by";
const PAUSE: Duration = Duration::from_millis(10);
const SOON: Duration = Duration::from_secs(10);

/// How long the messages of a while took.
pub(crate) struct Latency {
    pub(crate) p99_ms: f64,
}

pub(crate) struct Bystander {
    sender: Connection,
    sent: u64,
    /// How far the other one has got.
    received: watch::Receiver<u64>,
    receiving: JoinHandle<Result<()>>,
}

impl Bystander {
    pub(crate) async fn start(gateway: SocketAddr, signer: &Signer) -> Result<Self> {
        let gateway = gateway.to_string();
        let sender = Connection::logged_in(&gateway, &signer.token("anna.by")).await?;
        let receiver = Connection::logged_in(&gateway, &signer.token("bert.by")).await?;
        let (progress, received) = watch::channel(0);
        Ok(Self {
            sender,
            sent: 0,
            received,
            receiving: tokio::spawn(receive(receiver, progress)),
        })
    }

    /// Sends one message after the other for so long. None may fail.
    pub(crate) async fn watch(&mut self, length: Duration) -> Result<Latency> {
        let until = Instant::now() + length;
        let mut took = Vec::new();
        while Instant::now() < until {
            let (id, began) = (format!("m{}", self.sent), Instant::now());
            let sent = self.sender.send("bert.by", &id, "hello").await;
            let sent = sent.context("a bystander's message")?;
            took.push(began.elapsed().as_secs_f64() * 1000.0);
            self.sent += 1;
            ensure!(sent.seq == self.sent, "seq {} of {}", sent.seq, self.sent);
            sleep(PAUSE).await;
        }
        let received = self.received.wait_for(|seq| *seq == self.sent);
        let received = timeout(SOON, received).await;
        received.context("a bystander's message did not arrive")??;
        took.sort_by(f64::total_cmp);
        let p99_ms = took[(took.len() - 1) * 99 / 100];
        Ok(Latency { p99_ms })
    }

    /// Both were connected all the time.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.sender.ping().await.context("the sender was cut off")?;
        ensure!(!self.receiving.is_finished(), "the receiver was cut off");
        self.receiving.abort();
        Ok(())
    }
}

/// Every event once and in order. After a resync, as when a young cluster moves a leader, it fetches.
async fn receive(mut connection: Connection, progress: watch::Sender<u64>) -> Result<()> {
    let mut have = 0;
    loop {
        match connection.next().await?.body {
            Some(Answer::Event(event)) if event.seq > have => {
                ensure!(event.seq == have + 1, "{} after {have}", event.seq);
                have = event.seq;
            }
            Some(Answer::Resync(_)) => loop {
                let page = connection.history(history_forward(CONVERSATION, have + 1));
                let page = page.await?;
                have = page.events.last().map_or(have, |event| event.seq);
                if !page.more {
                    break;
                }
            },
            _ => {}
        }
        progress.send_replace(have);
    }
}
