//! How a hostile client floods a gateway.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use parlance_client::Format;
use parlance_proto::client::v1 as proto;
use parlance_proto::common::v1::ErrorCode;
use parlance_proto::limits::FRAME_BYTES_MAX;
use parlance_tests::client::{CallError, Connection, history_forward};
use parlance_tests::token::Signer;
use parlance_tests::wait::until;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::attacks::{Attack, Kind};

/// The conversation of the measured attack: 60 messages of 31 KB.
const LARGE: &str = "d:5:mallo:reade";
const SOON: Duration = Duration::from_secs(20);
const MESSAGES: usize = 60;
const MESSAGE_BYTES: usize = 31_000;
/// Sockets that are held at a time by whoever says nothing.
const SOCKETS: usize = 500;

/// What it came to.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) asked: u64,
    /// Answers that were `overloaded`.
    pub(crate) refused: u64,
    /// Connections that were closed.
    pub(crate) closed: u64,
}

impl Told {
    fn add(&mut self, body: Option<Answer>) -> Result<()> {
        if let Some(Answer::Error(error)) = body
            && error.code() == ErrorCode::Overloaded
        {
            ensure!(error.retry_after_ms > 0, "no time to try again: {error:?}");
            self.refused += 1;
        }
        Ok(())
    }
}

pub(crate) struct Hostile {
    gateway: String,
    signer: Signer,
}

impl Hostile {
    /// Fills the large conversation, at the pace that is allowed.
    pub(crate) async fn prepare(gateway: SocketAddr, signer: Signer) -> Result<Self> {
        let hostile = Self {
            gateway: gateway.to_string(),
            signer,
        };
        let mut mallory = hostile.gets_in("mallo").await?;
        let text = "x".repeat(MESSAGE_BYTES);
        for number in 0..MESSAGES {
            loop {
                let id = format!("m{number}");
                match mallory.send("reade", &id, &text).await {
                    Ok(_) => break,
                    Err(CallError::Refused(error)) if error.is_retryable() => {
                        sleep(Duration::from_millis(error.retry_after_ms.into())).await;
                    }
                    Err(error) => return Err(error).context("fill the conversation"),
                }
            }
        }
        Ok(hostile)
    }

    async fn log_in(&self, user: &str) -> Result<Connection> {
        Connection::logged_in(&self.gateway, &self.signer.token(user)).await
    }

    /// Logs in once the gateway knows the app and lets this address in again.
    pub(crate) async fn gets_in(&self, user: &str) -> Result<Connection> {
        until("a hostile user gets in", SOON, async || {
            self.log_in(user).await
        })
        .await
    }

    pub(crate) async fn run(&self, attack: &Attack, length: Duration) -> Result<Told> {
        let end = Instant::now() + length;
        match attack.kind {
            Kind::Histories(at_once) => self.histories(at_once, end).await,
            Kind::Unread => self.unread(end).await,
            Kind::Messages => {
                let flood = (0..4).map(|n| self.messages("mallo".into(), n, 1, end));
                sum(join_all(flood).await)
            }
            Kind::AppMessages => {
                let flood = (0..30).map(|n| self.messages(format!("many{n}"), n, 20, end));
                sum(join_all(flood).await)
            }
            Kind::InvalidMessages => {
                let invalid = |_| Ask::Send(parlance_client::text_to("", "id", "to nobody"));
                self.asked_again_and_again(invalid, end).await
            }
            Kind::Pings => {
                let ping = |_| Ask::Ping(proto::PingRequest {});
                self.asked_again_and_again(ping, end).await
            }
            Kind::Pongs => self.pongs(end).await,
            Kind::Sessions => self.sessions(end).await,
            Kind::BadLogins => self.bad_logins(end).await,
            Kind::LargeFrames => self.large_frames(end).await,
            Kind::LargeLogins => self.large_logins(end).await,
            Kind::Silence => self.sockets(b"", end).await,
            Kind::HalfUpgrades => self.sockets(b"GET /ws HTTP/1.1\r\nHost: x\r\n", end).await,
            Kind::HangUps => self.hang_ups(end).await,
            Kind::AllPlaces => self.all_places(end).await,
        }
    }

    async fn histories(&self, at_once: usize, end: Instant) -> Result<Told> {
        let mut told = Told::default();
        let mut mallory = self.gets_in("mallo").await?;
        while Instant::now() < end {
            for _ in 0..at_once {
                mallory.submit(history()).await?;
            }
            told.asked += at_once as u64;
            for _ in 0..at_once {
                told.add(mallory.next().await?.body)?;
            }
        }
        Ok(told)
    }

    async fn unread(&self, end: Instant) -> Result<Told> {
        let mut told = Told::default();
        let mut sessions = Vec::new();
        while Instant::now() < end {
            // Mallory and the other reader, each with as many sessions as there may be; those cut off come again.
            let user = ["mallo", "reade"][sessions.len() % 2];
            let mut session = self.log_in(user).await?;
            for _ in 0..128 {
                if session.submit(history()).await.is_err() {
                    break;
                }
                told.asked += 1;
            }
            sessions.push(session);
            sleep(Duration::from_millis(20)).await;
        }
        Ok(told)
    }

    async fn messages(
        &self,
        user: String,
        number: usize,
        at_once: usize,
        end: Instant,
    ) -> Result<Told> {
        let mut told = Told::default();
        let mut session = self.gets_in(&user).await?;
        while Instant::now() < end {
            for _ in 0..at_once {
                let id = format!("flood-{number}-{}", told.asked);
                let send = parlance_client::text_to("reade", id, "x");
                session.submit(Ask::Send(send)).await?;
                told.asked += 1;
            }
            for _ in 0..at_once {
                told.add(session.next().await?.body)?;
            }
        }
        Ok(told)
    }

    async fn asked_again_and_again(&self, ask: impl Fn(u64) -> Ask, end: Instant) -> Result<Told> {
        const AT_ONCE: u64 = 100;
        let mut told = Told::default();
        let mut mallory = self.gets_in("mallo").await?;
        while Instant::now() < end {
            for number in 0..AT_ONCE {
                mallory.submit(ask(number)).await?;
            }
            told.asked += AT_ONCE;
            for _ in 0..AT_ONCE {
                told.add(mallory.next().await?.body)?;
            }
        }
        Ok(told)
    }

    /// Whoever sends them waits for the gateway once the socket is full.
    async fn pongs(&self, end: Instant) -> Result<Told> {
        let mut told = Told::default();
        let mut mallory = self.gets_in("mallo").await?;
        while let Ok(sent) = timeout_at(end, mallory.pong()).await {
            if sent.is_err() {
                break;
            }
            told.asked += 1;
        }
        Ok(told)
    }

    async fn sessions(&self, end: Instant) -> Result<Told> {
        let (mut told, mut sessions) = (Told::default(), Vec::new());
        while Instant::now() < end {
            sessions.push(self.log_in("mallo").await?);
            told.asked += 1;
            sleep(Duration::from_millis(15)).await;
        }
        Ok(told)
    }

    async fn bad_logins(&self, end: Instant) -> Result<Told> {
        let guess = |_| async move {
            let mut told = Told::default();
            while Instant::now() < end {
                told.asked += 1;
                // It may be turned away before it can say anything.
                let Ok(mut connection) = Connection::open(&self.gateway).await else {
                    told.closed += 1;
                    continue;
                };
                match connection.login("guess").await {
                    Err(CallError::Refused(error)) => told.add(Some(Answer::Error(error)))?,
                    other => ensure!(other.is_err(), "a guessed token was taken"),
                }
            }
            anyhow::Ok(told)
        };
        sum(join_all((0..4).map(guess)).await)
    }

    async fn large_frames(&self, end: Instant) -> Result<Told> {
        let mut told = Told::default();
        let large = vec![0; 2 * FRAME_BYTES_MAX];
        while Instant::now() < end {
            let mut mallory = self.gets_in("mallo").await?;
            told.asked += 1;
            let _ = mallory.write(Format::Protobuf, &large).await;
            mallory.closed_within(SOON).await;
            told.closed += 1;
        }
        Ok(told)
    }

    async fn large_logins(&self, end: Instant) -> Result<Told> {
        let mut told = Told::default();
        let token = "x".repeat(FRAME_BYTES_MAX - 1000);
        while Instant::now() < end {
            let Ok(mut connection) = Connection::open(&self.gateway).await else {
                continue;
            };
            told.asked += 1;
            let answer = connection.login(&token).await;
            ensure!(answer.is_err(), "a login of 64 KiB was taken");
            told.closed += 1;
        }
        Ok(told)
    }

    /// Sockets that begin with some bytes and say nothing more.
    async fn sockets(&self, first: &[u8], end: Instant) -> Result<Told> {
        let (mut told, mut sockets) = (Told::default(), Vec::new());
        while let Ok(socket) = timeout_at(end, TcpStream::connect(&self.gateway)).await {
            let mut socket = socket?;
            let _ = socket.write_all(first).await;
            sockets.push(socket);
            told.asked += 1;
            if sockets.len() > SOCKETS {
                sockets.drain(..SOCKETS / 2);
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(told)
    }

    async fn hang_ups(&self, end: Instant) -> Result<Told> {
        let mut told = Told::default();
        while let Ok(socket) = timeout_at(end, TcpStream::connect(&self.gateway)).await {
            drop(socket?);
            told.asked += 1;
        }
        Ok(told)
    }

    async fn all_places(&self, end: Instant) -> Result<Told> {
        let (mut told, mut sessions) = (Told::default(), Vec::new());
        // A slow machine takes longer until there are none left.
        while Instant::now() < end || (told.closed == 0 && Instant::now() < end + SOON) {
            told.asked += 1;
            match self.log_in(&format!("many{}", told.asked / 20)).await {
                Ok(session) => sessions.push(session),
                Err(_) => told.closed += 1,
            }
            // As fast as logins are allowed.
            sleep(Duration::from_millis(5)).await;
        }
        Ok(told)
    }
}

fn history() -> Ask {
    Ask::History(history_forward(LARGE, 1))
}

fn sum(floods: Vec<Result<Told>>) -> Result<Told> {
    let mut sum = Told::default();
    for told in floods {
        let told = told?;
        sum.asked += told.asked;
        sum.refused += told.refused;
        sum.closed += told.closed;
    }
    Ok(sum)
}
