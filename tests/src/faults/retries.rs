//! Every message is sent twice at once, through two gateways, while a leader dies; both must get the same answer.
//! Now and then a known id comes with another payload: a conflict.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::Stage;
use crate::client::{CallError, Connection};
use crate::cluster::START_WITHIN;
use crate::direct;
use crate::history::{History, MessageKey, What, text_digest};
use crate::token::Signer;

const SENDER: &str = "retrying";
const RECEIVER: &str = "patient";
const LENGTH: Duration = Duration::from_secs(8);
const KILL_AFTER: Duration = Duration::from_secs(2);
const START_AFTER: Duration = Duration::from_secs(5);
const PROBE_EVERY: u64 = 5;
const GIVE_UP_AFTER: Duration = Duration::from_secs(40);

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<()> {
    let stream = Stream::new(stage)?;
    let end = Instant::now() + LENGTH;
    let sending = tokio::spawn(stream.run(Some(end)));
    sleep(KILL_AFTER).await;
    let leader = stage.cluster.busiest_leader().await?;
    stage
        .history
        .note(format!("kill -9 of node {leader}, which leads most shards"));
    stage.cluster.node(leader)?.kill()?;
    stage.strike(format!("kill of node {leader}"));
    sleep(START_AFTER - KILL_AFTER).await;
    stage.history.note(format!("start of node {leader}"));
    stage.cluster.node(leader)?.start()?;
    stage.cluster.wait_node_ready(leader, START_WITHIN).await?;
    sending.await??;
    stage.cluster.wait_healthy(START_WITHIN).await
}

/// A stream without a death, as long as nobody ends it.
pub(super) struct Retrying {
    sent: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Retrying {
    pub(super) fn begin(stage: &Stage<'_>) -> Result<Self> {
        let stream = Stream::new(stage)?;
        let sent = stream.sent.clone();
        let task = tokio::spawn(stream.run(None));
        Ok(Self { sent, task })
    }

    /// Says how many messages were sent twice. What is on its way may be stored or not.
    pub(super) async fn end(self) -> Result<u64> {
        if self.task.is_finished() {
            self.task.await??;
        } else {
            self.task.abort();
        }
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

/// One conversation, two ways into the cluster.
struct Stream {
    ways: [Way; 2],
    conversation: String,
    history: History,
    sent: Arc<AtomicU64>,
}

struct Way {
    session: String,
    gateway: String,
    signer: Signer,
    connection: Option<Connection>,
    /// Connections so far.
    connections: u64,
}

impl Stream {
    fn new(stage: &Stage<'_>) -> Result<Self> {
        let gateways = stage.cluster.gateway_addresses();
        let (signer, history) = (stage.cluster.signer.clone(), stage.history.clone());
        let way = |number: usize| {
            let gateway = gateways
                .get(number % gateways.len().max(1))
                .cloned()
                .context("no gateway")?;
            let session = format!("{SENDER}/{}", number + 1);
            anyhow::Ok(Way {
                session,
                gateway,
                signer: signer.clone(),
                connection: None,
                connections: 0,
            })
        };
        let ways = [way(0)?, way(1)?];
        Ok(Self {
            ways,
            conversation: direct::between(SENDER, RECEIVER)?,
            history,
            sent: Arc::default(),
        })
    }

    /// Until then, or for as long as it is let; always the same messages from the first one on, so that those of an earlier
    /// stream are sent again.
    async fn run(mut self, until: Option<Instant>) -> Result<()> {
        let mut number = 0;
        while until.is_none_or(|until| Instant::now() < until) {
            number += 1;
            self.both(number).await?;
            self.sent.fetch_add(1, Ordering::Relaxed);
            if number % PROBE_EVERY == 0 {
                self.probe(number).await?;
            }
        }
        Ok(())
    }

    /// Until both ways have an acknowledgement: the next message must not overtake a late attempt of this one.
    async fn both(&mut self, number: u64) -> Result<()> {
        let message = self.message(number);
        let text = format!("message {number}");
        let [one, two] = &mut self.ways;
        let (one, two) = tokio::join!(
            one.until_acknowledged(&self.history, &message, &text),
            two.until_acknowledged(&self.history, &message, &text)
        );
        one.and(two)
    }

    async fn probe(&mut self, number: u64) -> Result<()> {
        let message = self.message(number);
        let text = format!("another message {number}");
        let way = &mut self.ways[(number / PROBE_EVERY % 2) as usize];
        let give_up = Instant::now() + GIVE_UP_AFTER;
        loop {
            let code = match way.send(&message.id, &text).await {
                Ok(_) => "ok".to_owned(),
                Err(CallError::Refused(error)) if !error.is_retryable() => error.code().name(),
                Err(error) if Instant::now() > give_up => {
                    bail!("a conflict was not answered: {error}")
                }
                Err(_) => {
                    sleep(PAUSE).await;
                    continue;
                }
            };
            self.history.record(What::ConflictProbe {
                message,
                digest: text_digest(&text),
                code,
            });
            return Ok(());
        }
    }

    fn message(&self, number: u64) -> MessageKey {
        let conversation = self.conversation.clone();
        MessageKey {
            conversation,
            sender: SENDER.to_owned(),
            id: format!("retry-{number}"),
        }
    }
}

const PAUSE: Duration = Duration::from_millis(100);

impl Way {
    async fn until_acknowledged(
        &mut self,
        history: &History,
        message: &MessageKey,
        text: &str,
    ) -> Result<()> {
        let give_up = Instant::now() + GIVE_UP_AFTER;
        loop {
            let (digest, session) = (text_digest(text), self.session.clone());
            history.record(What::Attempt {
                message: message.clone(),
                session,
                connection: self.connections + u64::from(self.connection.is_none()),
                digest,
            });
            let (message, session) = (message.clone(), self.session.clone());
            match self.send(&message.id, text).await {
                Ok(answer) => {
                    let (seq, time_ms, duplicate) = (answer.seq, answer.time_ms, answer.duplicate);
                    history.record(What::Acknowledged {
                        message,
                        session,
                        seq,
                        time_ms,
                        duplicate,
                    });
                    return Ok(());
                }
                Err(CallError::Refused(error)) if !error.is_retryable() => {
                    bail!("{message:?} was refused: {error}")
                }
                Err(error) if Instant::now() > give_up => {
                    bail!("{message:?} was never acknowledged: {error}")
                }
                Err(error) => {
                    history.record(What::Doubt {
                        message,
                        session,
                        code: error.code().unwrap_or_default(),
                        reason: error.to_string(),
                    });
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn send(
        &mut self,
        id: &str,
        text: &str,
    ) -> Result<parlance_proto::client::v1::SendResponse, CallError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.connections += 1;
                Connection::logged_in(&self.gateway, &self.signer.token(SENDER))
                    .await
                    .map_err(|error| CallError::Broken(format!("{error:#}")))?
            }
        };
        let answer = connection.send(RECEIVER, id, text).await;
        // After a typed answer the connection is as good as before.
        if matches!(answer, Ok(_) | Err(CallError::Refused(_))) {
            self.connection = Some(connection);
        }
        answer
    }
}
