//! The load: users who chat one to one, each with two sessions on different gateways, and readers who read along.
//! What is sent, by whom and how long it is, comes from the seed; when, also from the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use parlance_proto::limits::CONTENT_BYTES_MAX;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::direct;
use crate::history::{History, MessageKey};
use crate::readers::{Conversations, GatewayReader};
use crate::session::{Session, SessionSpec};
use crate::token::Signer;
use crate::wait::until;

/// Sends of one side of a conversation that may wait for an answer at once.
const OPEN_MAX: usize = 16;
/// One message in so many is nearly as large as messages may be: pages and frames end before and behind it.
const LARGE_ONE_IN: u32 = 50;
const LARGE_BYTES: usize = CONTENT_BYTES_MAX - 256;
const MARK_READ_EVERY: Duration = Duration::from_millis(300);

/// How much of what.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    pub seed: u64,
    pub users: usize,
    pub conversations: usize,
    /// Messages a second, all together.
    pub rate: u32,
    pub text_bytes_max: usize,
}

impl Default for LoadSpec {
    fn default() -> Self {
        Self {
            seed: 1,
            users: 12,
            conversations: 24,
            rate: 300,
            text_bytes_max: 400,
        }
    }
}

/// A running load.
pub struct Load {
    pub sessions: Vec<Arc<Session>>,
    /// Who chats.
    pub users: Vec<String>,
    /// What is written to, each with a member.
    pub conversations: Conversations,
    history: History,
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts sessions and waits until all are online; nothing is sent yet.
    pub async fn start(
        spec: &LoadSpec,
        gateways: &[String],
        signer: &Signer,
        history: &History,
    ) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(spec.seed);
        let users: Vec<String> = (0..spec.users)
            .map(|number| format!("user{number:02}"))
            .collect();
        let mut sessions = Vec::new();
        for (number, user) in users.iter().enumerate() {
            for device in 0..2 {
                let mut gateways = gateways.to_vec();
                let first = (number + device) % gateways.len().max(1);
                gateways.rotate_left(first);
                let name = format!("{user}/{}", device + 1);
                let (user, signer, seed) = (user.clone(), signer.clone(), rng.random());
                let session = SessionSpec {
                    name,
                    user,
                    signer,
                    gateways,
                    seed,
                };
                sessions.push(Arc::new(Session::start(session, history.clone())));
            }
        }
        until(
            "all sessions are online",
            Duration::from_secs(30),
            async || all_online(&sessions),
        )
        .await?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self {
            sessions,
            users: users.clone(),
            conversations: Conversations::default(),
            history: history.clone(),
            stop,
            senders: Vec::new(),
            others: Vec::new(),
        };
        load.spawn_all(spec, &users, gateways, signer, &mut rng)?;
        Ok(load)
    }

    fn spawn_all(
        &mut self,
        spec: &LoadSpec,
        users: &[String],
        gateways: &[String],
        signer: &Signer,
        rng: &mut StdRng,
    ) -> Result<()> {
        let mut pairs = Vec::new();
        for _ in 0..spec.conversations {
            let (a, b) = (
                rng.random_range(0..users.len()),
                rng.random_range(1..users.len()),
            );
            pairs.push((a, (a + b) % users.len()));
        }
        let pause = Duration::from_secs_f64(2.0 * pairs.len() as f64 / f64::from(spec.rate.max(1)));
        for (pair, (a, b)) in pairs.iter().enumerate() {
            for (side, (from, to)) in [(a, b), (b, a)].into_iter().enumerate() {
                let sender = Sender {
                    session: Arc::clone(&self.sessions[from * 2 + rng.random_range(0..2)]),
                    to: users[*to].clone(),
                    conversation: direct::between(&users[*from], &users[*to])?,
                    label: format!("{pair}-{side}"),
                    pause,
                    text_bytes_max: spec.text_bytes_max,
                    rng: StdRng::seed_from_u64(rng.random()),
                };
                self.senders
                    .push(tokio::spawn(sender.run(Arc::clone(&self.stop))));
            }
        }
        for session in self.sessions.iter().skip(1).step_by(2) {
            let rng = StdRng::seed_from_u64(rng.random());
            self.others.push(tokio::spawn(mark_read(
                Arc::clone(session),
                rng,
                Arc::clone(&self.stop),
            )));
        }
        let conversations: anyhow::Result<Vec<_>> = pairs
            .iter()
            .map(|(a, b)| Ok((users[*a].clone(), direct::between(&users[*a], &users[*b])?)))
            .collect();
        self.conversations = conversations?.into();
        for gateway in gateways {
            let reader = GatewayReader::new(
                gateway.clone(),
                self.conversations.clone(),
                signer.clone(),
                self.history.clone(),
                StdRng::seed_from_u64(rng.random()),
            );
            self.others
                .push(tokio::spawn(reader.run(Arc::clone(&self.stop))));
        }
        Ok(())
    }

    /// No new sends; waits until every send that left has been answered.
    pub async fn drain(&mut self, within: Duration) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        // First the tasks, so that none begins another send after the count below.
        for task in self.senders.drain(..).chain(self.others.drain(..)) {
            timeout(within, task).await??;
        }
        let sessions = &self.sessions;
        until("every send is answered", within, async || {
            let open: u64 = sessions.iter().map(|session| session.open_sends()).sum();
            if open > 0 {
                bail!("{open} sends wait for an answer");
            }
            Ok(())
        })
        .await
    }

    /// Waits until all sessions are logged in.
    pub async fn wait_online(&self, within: Duration) -> Result<()> {
        until("all sessions are online", within, async || {
            all_online(&self.sessions)
        })
        .await
    }

    /// Error answers that sessions have seen and mended by a retry.
    pub fn error_answers(&self) -> u64 {
        self.sessions
            .iter()
            .map(|session| session.counters().error_answers.load(Ordering::Relaxed))
            .sum()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.senders
            .iter()
            .chain(&self.others)
            .for_each(JoinHandle::abort);
    }
}

fn all_online(sessions: &[Arc<Session>]) -> Result<()> {
    let offline: Vec<&str> = sessions
        .iter()
        .filter(|s| !s.is_online())
        .map(|s| s.name.as_str())
        .collect();
    if !offline.is_empty() {
        bail!("offline: {}", offline.join(" "));
    }
    Ok(())
}

/// One side of one conversation.
struct Sender {
    session: Arc<Session>,
    to: String,
    conversation: String,
    label: String,
    pause: Duration,
    text_bytes_max: usize,
    rng: StdRng,
}

impl Sender {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        let mut open = std::collections::VecDeque::new();
        let mut number = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            sleep(self.pause.mul_f64(self.rng.random_range(0.0..2.0))).await;
            number += 1;
            let id = format!("{}-{number}", self.label);
            let text = format!("{id} {}", "x".repeat(self.padding_bytes()));
            let message = MessageKey {
                conversation: self.conversation.clone(),
                sender: self.session.user.clone(),
                id,
            };
            open.push_back(self.session.send(message, &self.to, text).await);
            if open.len() > OPEN_MAX
                && let Some(oldest) = open.pop_front()
            {
                // Whatever it is, it is in the history.
                let _ = oldest.await;
            }
        }
    }

    fn padding_bytes(&mut self) -> usize {
        if self.rng.random_ratio(1, LARGE_ONE_IN) {
            LARGE_BYTES
        } else {
            self.rng.random_range(0..=self.text_bytes_max)
        }
    }
}

async fn mark_read(session: Arc<Session>, mut rng: StdRng, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        sleep(MARK_READ_EVERY.mul_f64(rng.random_range(0.5..1.5))).await;
        let last: Vec<(String, u64)> = session.last().into_iter().collect();
        if let Some((conversation, seq)) = last.choose(&mut rng) {
            session
                .mark_read(
                    conversation,
                    // Often behind where the cursor is already: it must not go back.
                    seq.saturating_sub(rng.random_range(0..30)).max(1),
                )
                .await;
        }
    }
}
