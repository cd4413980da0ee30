//! What a hostile client does to a gateway, one bound after the other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use parlance_proto::client::v1 as proto;
use parlance_proto::common::v1::ErrorCode;
use parlance_tests::client::{CallError, Connection, history_forward};
use parlance_tests::token::Signer;
use parlance_tests::wait::until;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

/// The conversation of the measured attack: 60 messages of 31 KB.
const LARGE: &str = "d:5:mallo:reade";
const SOON: Duration = Duration::from_secs(10);
const MESSAGES: usize = 60;
const MESSAGE_BYTES: usize = 31_000;

/// One way to flood.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Why the gateway refuses it.
    pub(crate) reasons: &'static [&'static str],
    kind: Kind,
}

enum Kind {
    /// So many history requests at once, again and again, all answers read.
    Histories(usize),
    /// As many as there may be, of many users, and nothing is read.
    Unread,
    Messages,
    Pings,
    Sessions,
    Logins,
    Silence,
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "50 history requests at once",
        reasons: &["requests"],
        kind: Kind::Histories(50),
    },
    Attack {
        name: "128 history requests at once",
        reasons: &["requests"],
        kind: Kind::Histories(128),
    },
    Attack {
        name: "answers that nobody reads",
        reasons: &["outbound_total"],
        kind: Kind::Unread,
    },
    Attack {
        name: "messages as fast as they go",
        reasons: &["messages_session", "messages_user"],
        kind: Kind::Messages,
    },
    Attack {
        name: "pings as fast as they go",
        reasons: &["requests"],
        kind: Kind::Pings,
    },
    Attack {
        name: "sessions without end",
        reasons: &["sessions_per_user"],
        kind: Kind::Sessions,
    },
    Attack {
        name: "logins with bad tokens",
        reasons: &["logins_per_address"],
        kind: Kind::Logins,
    },
    Attack {
        name: "sockets that say nothing",
        reasons: &["connections_waiting"],
        kind: Kind::Silence,
    },
];

impl Attack {
    /// Whether it comes to refusals for sure: reads wait for their turn, and may all be answered.
    pub(crate) fn must_reach(&self) -> bool {
        !matches!(self.kind, Kind::Histories(_))
    }
}

/// What it came to.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) asked: u64,
    /// Answers that were `overloaded`.
    pub(crate) refused: u64,
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
        // The gateway learns of the app within a moment.
        let log_in = async || hostile.log_in("mallo").await;
        let mut mallory = until("the app is known", SOON, log_in).await?;
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

    pub(crate) async fn run(&self, attack: &Attack, length: Duration) -> Result<Told> {
        let until = Instant::now() + length;
        match attack.kind {
            Kind::Histories(at_once) => self.histories(at_once, until).await,
            Kind::Unread => self.unread(until).await,
            Kind::Messages => self.messages(until).await,
            Kind::Pings => self.pings(until).await,
            Kind::Sessions => self.sessions(until).await,
            Kind::Logins => self.logins(until).await,
            Kind::Silence => self.silence(until).await,
        }
    }

    async fn histories(&self, at_once: usize, until: Instant) -> Result<Told> {
        let mut told = Told::default();
        let mut mallory = self.log_in("mallo").await?;
        while Instant::now() < until {
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

    async fn unread(&self, until: Instant) -> Result<Told> {
        let mut told = Told::default();
        let mut sessions = Vec::new();
        while Instant::now() < until {
            // Mallory and the other reader, each with as many sessions as there may be; those cut off come again.
            let user = if sessions.len() % 2 == 0 {
                "mallo"
            } else {
                "reade"
            };
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

    async fn messages(&self, until: Instant) -> Result<Told> {
        let flood = |number: usize| async move {
            let mut told = Told::default();
            let mut session = self.log_in("mallo").await?;
            while Instant::now() < until {
                let id = format!("flood-{number}-{}", told.asked);
                let send = parlance_client::text_to("reade", id, "x");
                session.submit(Ask::Send(send)).await?;
                told.asked += 1;
                told.add(session.next().await?.body)?;
            }
            anyhow::Ok(told)
        };
        sum(join_all((0..4).map(flood)).await)
    }

    async fn pings(&self, until: Instant) -> Result<Told> {
        const AT_ONCE: u64 = 100;
        let mut told = Told::default();
        let mut mallory = self.log_in("mallo").await?;
        while Instant::now() < until {
            for _ in 0..AT_ONCE {
                mallory.submit(Ask::Ping(proto::PingRequest {})).await?;
            }
            told.asked += AT_ONCE;
            for _ in 0..AT_ONCE {
                told.add(mallory.next().await?.body)?;
            }
        }
        Ok(told)
    }

    async fn sessions(&self, until: Instant) -> Result<Told> {
        let (mut told, mut sessions) = (Told::default(), Vec::new());
        while Instant::now() < until {
            sessions.push(self.log_in("mallo").await?);
            told.asked += 1;
            sleep(Duration::from_millis(15)).await;
        }
        Ok(told)
    }

    async fn logins(&self, until: Instant) -> Result<Told> {
        let guess = |_| async move {
            let mut told = Told::default();
            while Instant::now() < until {
                let mut connection = Connection::open(&self.gateway).await?;
                told.asked += 1;
                match connection.login("guess").await {
                    Err(CallError::Refused(error)) => told.add(Some(Answer::Error(error)))?,
                    other => ensure!(other.is_err(), "a guessed token was taken"),
                }
            }
            anyhow::Ok(told)
        };
        sum(join_all((0..4).map(guess)).await)
    }

    async fn silence(&self, until: Instant) -> Result<Told> {
        let (mut told, mut sockets) = (Told::default(), Vec::new());
        while let Ok(socket) = timeout_at(until, TcpStream::connect(&self.gateway)).await {
            sockets.push(socket?);
            told.asked += 1;
            if sockets.len() > 500 {
                sockets.drain(..250);
            }
            sleep(Duration::from_millis(1)).await;
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
    }
    Ok(sum)
}
