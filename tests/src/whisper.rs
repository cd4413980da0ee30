//! Quiet conversations: each gets one event in the middle of a fault, and then nothing that could show that it is missing.
//! Whoever is online must get it by a push, or after being told to resync.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::check::PUSHED_WITHIN_US;
use crate::direct;
use crate::history::{History, MessageKey};
use crate::load::Load;
use crate::session::{Outcome, Session, SessionSpec};
use crate::token::Signer;
use crate::wait::until;

const WHISPERERS: usize = 8;
const PAUSE_MS: std::ops::Range<u64> = 60..300;
const ONLINE_WITHIN: Duration = Duration::from_secs(30);
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// A little longer than `check/pushed.rs` gives them: what did not come by then is judged before the next fault begins.
const HEARD_WITHIN: Duration = Duration::from_micros(PUSHED_WITHIN_US + 2_000_000);

/// Who whispers, and to whom.
pub struct Whispers {
    sessions: Vec<Arc<Session>>,
    users: Vec<String>,
    rng: StdRng,
    rounds: u64,
}

/// Whispers on their way, one each in conversations that stay quiet.
pub struct Whispering {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<(String, Outcome)>>,
}

impl Whispers {
    /// Starts sessions that whisper to the users of a load.
    pub async fn start(
        load: &Load,
        gateways: &[String],
        signer: &Signer,
        history: &History,
        seed: u64,
    ) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut sessions = Vec::new();
        for number in 0..WHISPERERS {
            let mut gateways = gateways.to_vec();
            let first = number % gateways.len().max(1);
            gateways.rotate_left(first);
            let user = format!("whisper{number}");
            let spec = SessionSpec {
                name: format!("{user}/1"),
                user,
                signer: signer.clone(),
                gateways,
                seed: rng.random(),
            };
            sessions.push(Arc::new(Session::start(spec, history.clone())));
        }
        until("all whisperers are online", ONLINE_WITHIN, async || {
            ensure!(
                sessions.iter().all(|session| session.is_online()),
                "some are not"
            );
            Ok(())
        })
        .await?;
        let users = load.users.clone();
        Ok(Self {
            sessions,
            users,
            rng,
            rounds: 0,
        })
    }

    /// Begins to whisper, in each conversation at most once.
    pub fn begin(&mut self) -> Whispering {
        self.rounds += 1;
        let mut pairs: Vec<(Arc<Session>, String)> = Vec::new();
        for session in &self.sessions {
            pairs.extend(
                self.users
                    .iter()
                    .map(|user| (session.clone(), user.clone())),
            );
        }
        pairs.shuffle(&mut self.rng);
        let stop = Arc::new(AtomicBool::new(false));
        let rng = StdRng::seed_from_u64(self.rng.random());
        let task = tokio::spawn(whisper(pairs, self.rounds, rng, stop.clone()));
        Whispering { stop, task }
    }

    /// No whisper is without an answer.
    pub async fn drained(&self, within: Duration) -> Result<()> {
        until("every whisper is answered", within, async || {
            let open: u64 = self
                .sessions
                .iter()
                .map(|session| session.open_sends())
                .sum();
            ensure!(open == 0, "{open} wait for an answer");
            Ok(())
        })
        .await
    }
}

impl Whispering {
    /// Whispers no more, and waits until all that are online have heard everything, or should have: the checker says which.
    /// Gives how many were whispered.
    pub async fn end(self, whispers: &Whispers, load: &Load, history: &History) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        whispers.drained(ANSWERED_WITHIN).await?;
        let whispered: HashMap<String, u64> = self
            .task
            .await?
            .into_iter()
            .filter_map(|(conversation, outcome)| match outcome {
                Outcome::Acknowledged { seq } => Some((conversation, seq)),
                _ => None,
            })
            .collect();
        let heard = until("every whisper is heard", HEARD_WITHIN, async || {
            for session in &load.sessions {
                let last = session.last();
                for (conversation, seq) in &whispered {
                    let has = last.get(conversation).copied().unwrap_or_default();
                    if has < *seq && direct::peer(conversation, &session.user).is_some() {
                        bail!("{} has {conversation} up to {has} of {seq}", session.name);
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = heard.await {
            history.note(format!("{error:#}"));
        }
        Ok(whispered.len())
    }
}

async fn whisper(
    pairs: Vec<(Arc<Session>, String)>,
    round: u64,
    mut rng: StdRng,
    stop: Arc<AtomicBool>,
) -> Vec<(String, Outcome)> {
    let mut told = Vec::new();
    for (session, user) in pairs {
        sleep(Duration::from_millis(rng.random_range(PAUSE_MS))).await;
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let Ok(conversation) = direct::between(&session.user, &user) else {
            continue;
        };
        let message = MessageKey {
            conversation: conversation.clone(),
            sender: session.user.clone(),
            id: format!("whisper-{round}"),
        };
        let answer = session.send(message, &user, "psst".to_owned()).await;
        told.push((conversation, answer));
    }
    let mut outcomes = Vec::new();
    for (conversation, answer) in told {
        outcomes.push((conversation, answer.await.unwrap_or(Outcome::Unknown)));
    }
    outcomes
}
