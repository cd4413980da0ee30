//! One logged-in session of the generator: sends at its pace, times the acknowledgements, times what is delivered.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use parlance_proto::client::v1::{
    ClientFrame, LoginRequest, ServerFrame, client_frame, content, event, server_frame,
};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::latency::micros;
use super::stamp::Stamps;
use super::wire::{GatewayUrl, Incoming, Wire, put_frame, put_pong};
use crate::client::text_to;

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
    pub wire: Wire,
    name: String,
}

/// A request of a fixed number that is never one of a send.
const LOGIN_REQUEST: u64 = u64::MAX;

impl Session {
    /// Connects and logs in.
    pub async fn open(
        url: &GatewayUrl,
        source: Option<IpAddr>,
        token: String,
    ) -> anyhow::Result<Self> {
        let mut wire = Wire::connect(url, source).await?;
        let login = LoginRequest {
            token,
            platform: "bench".to_owned(),
            ..Default::default()
        };
        let frame = ClientFrame {
            request_id: LOGIN_REQUEST,
            body: Some(client_frame::Body::Login(login)),
        };
        let mut out = BytesMut::new();
        put_frame(&mut out, &frame.encode_to_vec());
        wire.write(&out).await?;
        loop {
            let Incoming::Frame(bytes) = wire.next().await? else {
                bail!("the gateway closed the connection at the login")
            };
            let frame = ServerFrame::decode(bytes).context("decode the answer to the login")?;
            match frame.body {
                Some(server_frame::Body::Login(login)) => {
                    return Ok(Self {
                        wire,
                        name: login.session_id,
                    });
                }
                Some(server_frame::Body::Error(error)) => bail!("the login was refused: {error}"),
                _ => {}
            }
        }
    }

    /// Runs until the stage is `Done` or the connection ends. `to` gets the messages, in `conversation`'s shard.
    pub async fn run(self, pace: Pace, to: String, shared: Arc<Shared>) -> Tally {
        let stage = shared.stage.clone();
        let mut running = Running {
            next_due: match pace {
                Pace::Open { first, .. } => shared.stamps.start() + first,
                _ => shared.stamps.start(),
            },
            wire: self.wire,
            name: self.name,
            pace,
            to,
            shared,
            out: BytesMut::new(),
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
    wire: Wire,
    name: String,
    pace: Pace,
    to: String,
    shared: Arc<Shared>,
    out: BytesMut,
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
                self.put_due();
            }
            if !self.out.is_empty() {
                self.wire.write(&self.out).await?;
                self.out.clear();
            }
            let waits_for_clock = now == Stage::Sending
                && matches!(self.pace, Pace::Open { .. })
                && self.in_flight.len() < IN_FLIGHT_MAX;
            tokio::select! {
                read = self.wire.fill() => {
                    read?;
                    self.take_all()?;
                }
                () = tokio::time::sleep_until(self.next_due), if waits_for_clock => {}
                changed = stage.changed() => changed.context("the run ended")?,
            }
        }
    }

    fn put_due(&mut self) {
        match self.pace {
            Pace::Silent => {}
            Pace::Closed(depth) => {
                while self.in_flight.len() < depth {
                    self.put_send(self.shared.stamps.now());
                }
            }
            Pace::Open { every, .. } => {
                let now = Instant::now();
                while self.next_due <= now && self.in_flight.len() < IN_FLIGHT_MAX {
                    self.put_send(self.shared.stamps.at(self.next_due));
                    self.next_due += every;
                }
            }
        }
    }

    fn put_send(&mut self, stamp: u64) {
        let id = self.next_id;
        self.next_id += 1;
        let message_id = format!("{}-{id}", self.name.get(..48).unwrap_or(&self.name));
        let request = text_to(
            &self.to,
            &message_id,
            &Stamps::text(stamp, self.shared.payload),
        );
        let frame = ClientFrame {
            request_id: id,
            body: Some(client_frame::Body::Send(request)),
        };
        put_frame(&mut self.out, &frame.encode_to_vec());
        self.in_flight.push_back((id, stamp));
    }

    fn take_all(&mut self) -> anyhow::Result<()> {
        while let Some(incoming) = self.wire.buffered()? {
            match incoming {
                Incoming::Frame(bytes) => {
                    self.take(ServerFrame::decode(bytes).context("decode a frame")?)
                }
                Incoming::Ping(bytes) => put_pong(&mut self.out, &bytes),
                Incoming::Close(code) => bail!("the gateway closed the connection with {code:?}"),
                Incoming::Other => {}
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
