//! One logged-in session of the generator: sends at its pace, times the acknowledgements, times what is delivered.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use parlance_client::wire::{Endpoint, Incoming, Reader, Writer};
use parlance_client::{Format, LoginOptions, Request, text_to};
use parlance_proto::client::v1::{ClientFrame, ServerFrame, content, event, server_frame};
use parlance_proto::ids::UserId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::latency::micros;
use super::stamp::Stamps;

/// When a session sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Never: it only receives.
    Silent,
    /// So many are always under way.
    Closed(usize),
    /// At fixed times, whatever the answers; latency counts from the time at which it should have been sent.
    Open { first: Duration, every: Duration },
}

/// More are not sent before an answer comes; what waits is late, and counted so.
const IN_FLIGHT_MAX: usize = 64;

/// What all sessions of a run share.
pub struct Shared {
    pub stamps: Stamps,
    /// Only what happens while this is set is counted.
    pub measuring: AtomicBool,
    pub stage: watch::Receiver<Stage>,
    pub payload: usize,
    /// Acknowledged and delivered since the start, measured or not: the run is over when they meet.
    pub acknowledged: AtomicU64,
    pub delivered: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Sending,
    /// No new messages: answers and deliveries are awaited.
    Draining,
    Done,
}

/// What one session saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Latencies of acknowledgements, and when they came, since the start of the run.
    pub acks: Vec<(u32, u32)>,
    /// Latencies of deliveries.
    pub deliveries: Vec<u32>,
    /// Sends that were answered with an error, by code.
    pub errors: BTreeMap<String, u64>,
    /// Set if the connection ended before the run did.
    pub lost: Option<String>,
}

/// A session that is logged in and has not begun.
pub struct Session {
    reader: Reader,
    writer: Writer,
    name: String,
}

/// A request of a fixed number that is never one of a send.
const LOGIN_REQUEST: u64 = u64::MAX;

impl Session {
    /// Connects and logs in.
    pub async fn open(
        gateway: &Endpoint,
        source: Option<IpAddr>,
        token: &str,
    ) -> anyhow::Result<Self> {
        let (mut reader, mut writer) = gateway.open(Format::Protobuf, source).await?;
        let myself = LoginOptions {
            platform: "bench".to_owned(),
            ..LoginOptions::default()
        };
        writer.queue(&ClientFrame {
            request_id: LOGIN_REQUEST,
            body: Some(myself.request(token).into_body()),
        })?;
        writer.flush().await?;
        loop {
            let Incoming::Frame(bytes) = reader.next().await? else {
                bail!("the gateway closed the connection at the login")
            };
            match reader.format().decode(bytes)?.body {
                Some(server_frame::Body::Login(login)) => {
                    return Ok(Self {
                        reader,
                        writer,
                        name: login.session_id,
                    });
                }
                Some(server_frame::Body::Error(error)) => bail!("the login was refused: {error}"),
                _ => {}
            }
        }
    }

    /// Whether the gateway has closed or reset it.
    pub fn is_closed(&mut self) -> bool {
        self.reader.is_closed()
    }

    /// Runs until the stage is `Done` or the connection ends. `to` gets the messages, in `conversation`'s shard.
    pub async fn run(self, pace: Pace, to: UserId, shared: Arc<Shared>) -> Tally {
        let stage = shared.stage.clone();
        let mut running = Running {
            next_due: match pace {
                Pace::Open { first, .. } => shared.stamps.start() + first,
                _ => shared.stamps.start(),
            },
            reader: self.reader,
            writer: self.writer,
            name: self.name,
            pace,
            to,
            shared,
            next_id: 1,
            in_flight: VecDeque::new(),
            tally: Tally::default(),
        };
        if let Err(e) = running.work(stage).await {
            running.tally.lost = Some(format!("{e:#}"));
        }
        running.tally
    }
}

struct Running {
    reader: Reader,
    writer: Writer,
    name: String,
    pace: Pace,
    to: UserId,
    shared: Arc<Shared>,
    next_id: u64,
    /// Ids and stamps of unanswered sends, oldest first: answers of one conversation come in order, mostly.
    in_flight: VecDeque<(u64, u64)>,
    next_due: Instant,
    tally: Tally,
}

impl Running {
    async fn work(&mut self, mut stage: watch::Receiver<Stage>) -> anyhow::Result<()> {
        loop {
            let now = *stage.borrow_and_update();
            if now == Stage::Done {
                return Ok(());
            }
            if now == Stage::Sending {
                self.queue_due()?;
            }
            if self.writer.queued_bytes() > 0 {
                self.writer.flush().await?;
            }
            let waits_for_clock = now == Stage::Sending
                && matches!(self.pace, Pace::Open { .. })
                && self.in_flight.len() < IN_FLIGHT_MAX;
            tokio::select! {
                read = self.reader.fill() => {
                    read?;
                    self.take_all()?;
                }
                () = tokio::time::sleep_until(self.next_due), if waits_for_clock => {}
                changed = stage.changed() => changed.context("the run ended")?,
            }
        }
    }

    fn queue_due(&mut self) -> anyhow::Result<()> {
        match self.pace {
            Pace::Silent => {}
            Pace::Closed(depth) => {
                while self.in_flight.len() < depth {
                    self.queue_send(self.shared.stamps.now())?;
                }
            }
            Pace::Open { every, .. } => {
                let now = Instant::now();
                while self.next_due <= now && self.in_flight.len() < IN_FLIGHT_MAX {
                    self.queue_send(self.shared.stamps.at(self.next_due))?;
                    self.next_due += every;
                }
            }
        }
        Ok(())
    }

    fn queue_send(&mut self, stamp: u64) -> anyhow::Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        let message_id = format!("{}-{id}", self.name.get(..48).unwrap_or(&self.name));
        let request = text_to(
            &self.to,
            &message_id,
            Stamps::text(stamp, self.shared.payload),
        );
        let frame = ClientFrame {
            request_id: id,
            body: Some(request.into_body()),
        };
        self.writer.queue(&frame)?;
        self.in_flight.push_back((id, stamp));
        Ok(())
    }

    fn take_all(&mut self) -> anyhow::Result<()> {
        while let Some(incoming) = self.reader.buffered()? {
            match incoming {
                Incoming::Frame(bytes) => self.take(self.reader.format().decode(bytes)?),
                Incoming::Ping(bytes) => self.writer.queue_pong(&bytes),
                Incoming::Close(closed) => bail!("the gateway closed the connection: {closed}"),
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: ServerFrame) {
        let measuring = self.shared.measuring.load(Ordering::Relaxed);
        match frame.body {
            Some(server_frame::Body::Event(event)) => {
                let Some(event::Body::Message(message)) = event.body else {
                    return;
                };
                let Some(content::Kind::Text(text)) = message.content.and_then(|c| c.kind) else {
                    return;
                };
                let Some(stamp) = Stamps::parse(&text) else {
                    return;
                };
                self.shared.delivered.fetch_add(1, Ordering::Relaxed);
                if measuring {
                    self.tally
                        .deliveries
                        .push(micros(self.shared.stamps.since(stamp)));
                }
            }
            Some(server_frame::Body::Send(_)) => {
                let Some(stamp) = self.answered(frame.request_id) else {
                    return;
                };
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                if measuring {
                    let at = micros(self.shared.stamps.since(0));
                    self.tally
                        .acks
                        .push((micros(self.shared.stamps.since(stamp)), at));
                }
            }
            Some(server_frame::Body::Error(error)) => {
                let Some(_) = self.answered(frame.request_id) else {
                    return;
                };
                *self.tally.errors.entry(error.code().name()).or_default() += 1;
            }
            _ => {}
        }
    }

    fn answered(&mut self, id: u64) -> Option<u64> {
        let at = self
            .in_flight
            .iter()
            .position(|(waiting, _)| *waiting == id)?;
        self.in_flight.remove(at).map(|(_, stamp)| stamp)
    }
}
