//! A request to the leader of its slot's shard: follows hints, moved slots and the cluster's state, tries again over link
//! breaks and leader changes until the deadline. Every request is idempotent, so trying again is always safe.

use std::time::Duration;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::link::v1::response;
use parlance_proto::slot::Slot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::requests::{GivenUp, Reply, SubmitError};
use super::{Ask, Backoff, Router, Topology};
use crate::metrics::{RETRIES, refused};

const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(200);
/// A full queue to a node has room again about then.
const FULL_RETRY_AFTER: Duration = Duration::from_millis(500);
/// A node whose disk is full hands over what another can lead in less than this. Longer than that nobody is kept waiting.
const FULL_PATIENCE: Duration = Duration::from_secs(2);
/// News that come one after the other are followed at once this often; then there is a pause.
const HOPS_MAX: u32 = 3;

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The shard that owns the slot, looked up anew for each attempt.
    Slot(Slot),
    /// This shard: when slots have moved, the caller asks for them elsewhere.
    Shard(ShardId),
}

/// An answer and whose it is.
#[derive(Debug)]
pub struct Answered<T> {
    /// What the leader said.
    pub answer: T,
    pub node: NodeId,
    pub link_session: u64,
}

/// A request that got no answer in time, or was refused.
#[derive(Debug)]
pub struct Failure {
    /// For the client, if the request was a read.
    pub error: Error,
    /// A node may have done it.
    pub doubt: bool,
    /// The shard that was asked does not own the slots any more; who does is known now.
    pub moved: bool,
    /// Whoever leads the shard says when to come again, and nobody takes its place: to be passed on at once.
    pub full: bool,
}

enum Attempt<T> {
    Answered(Answered<T>),
    Refused(Error),
    Full(Error),
    Moved,
    Retry { reason: &'static str, at_once: bool },
    Deadline,
}

fn retry<T>(reason: &'static str, at_once: bool) -> Attempt<T> {
    Attempt::Retry { reason, at_once }
}

/// What is known of a request over all its attempts.
#[derive(Default)]
struct History {
    doubt: bool,
    refusal: Option<Error>,
    full_since: Option<Instant>,
}

impl Router {
    /// Asks the leader. Cancel-safe: a dropped call leaves nothing behind but a possible effect.
    pub async fn call<A: Ask>(
        &self,
        place: Place,
        ask: &A,
        deadline: Instant,
    ) -> Result<Answered<A::Answer>, Failure> {
        let mut topology = self.topology();
        let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
        let mut history = History::default();
        let mut hops = 0;
        loop {
            match self
                .attempt(place, ask, deadline, &mut topology, &mut history)
                .await
            {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Refused(error) => return Err(history.refused(error)),
                Attempt::Full(error) => return Err(history.full(error)),
                Attempt::Moved => return Err(history.moved()),
                Attempt::Deadline => return Err(history.timed_out()),
                Attempt::Retry { reason, at_once } => {
                    metrics::counter!(RETRIES, "reason" => reason).increment(1);
                    hops += 1;
                    if at_once && hops < HOPS_MAX {
                        continue;
                    }
                }
            }
            let pause = Instant::now() + backoff.pause();
            tokio::select! {
                _ = topology.changed() => {}
                () = sleep_until(pause.min(deadline)) => {}
            }
            if Instant::now() >= deadline {
                return Err(history.timed_out());
            }
        }
    }

    async fn attempt<A: Ask>(
        &self,
        place: Place,
        ask: &A,
        deadline: Instant,
        topology: &mut watch::Receiver<Topology>,
        history: &mut History,
    ) -> Attempt<A::Answer> {
        let Some((shard, node)) = target(&topology.borrow_and_update(), place) else {
            return retry("no_leader", false);
        };
        let Some(link) = self.link(node) else {
            return retry("no_leader", false);
        };
        let answer = match link
            .requests
            .submit(shard, ask.clone().into_body(), deadline)
        {
            Ok(answer) => answer,
            Err(SubmitError::Down) => return retry("link_down", false),
            Err(SubmitError::Full) => {
                refused("link_queue");
                let error = "too many requests wait for a node";
                history.refusal = Some(Error::overloaded(error, FULL_RETRY_AFTER));
                return retry("refused", false);
            }
        };
        let lost = match answer.await {
            Ok(Ok(reply)) => return self.judge::<A>(place, shard, node, reply, history),
            Ok(Err(GivenUp::Deadline)) => Attempt::Deadline,
            Ok(Err(GivenUp::LeaderMoved)) => retry("leader_moved", true),
            Err(_) => retry("link_lost", false),
        };
        history.doubt = true;
        lost
    }

    fn judge<A: Ask>(
        &self,
        place: Place,
        shard: ShardId,
        node: NodeId,
        reply: Reply,
        history: &mut History,
    ) -> Attempt<A::Answer> {
        match reply.body {
            response::Body::NotLeader(hint) => {
                let leader = NodeId::known(hint.leader_node_id);
                self.topology
                    .send_if_modified(|topology| topology.hint(shard, node, leader));
                let elsewhere = self.with_topology(|t| t.leader(shard) != Some(node));
                retry("not_leader", elsewhere)
            }
            response::Body::Moved(moved) => {
                let news = self.add_routes(&moved.routes);
                match place {
                    Place::Shard(_) => Attempt::Moved,
                    // Another's answer may have said so before.
                    Place::Slot(slot) => {
                        let elsewhere =
                            self.with_topology(|topology| topology.shard_of(slot) != Some(shard));
                        retry("shard_moved", news || elsewhere)
                    }
                }
            }
            response::Body::Error(error) if error.is_retryable() => {
                history.doubt |= error.code() == ErrorCode::OutcomeUnknown;
                if history.is_to_be_told(&error) {
                    return Attempt::Full(error);
                }
                history.refusal = Some(error);
                retry("refused", false)
            }
            response::Body::Error(error) => Attempt::Refused(error),
            body => A::answer(body).map_or_else(
                || {
                    let error = "a node gave an answer of the wrong kind";
                    Attempt::Refused(Error::new(ErrorCode::Internal, error))
                },
                |answer| {
                    Attempt::Answered(Answered {
                        answer,
                        node,
                        link_session: reply.link_session,
                    })
                },
            ),
        }
    }
}

fn target(topology: &Topology, place: Place) -> Option<(ShardId, NodeId)> {
    let shard = match place {
        Place::Slot(slot) => topology.shard_of(slot)?,
        Place::Shard(shard) => shard,
    };
    Some((shard, topology.leader(shard)?))
}

impl History {
    fn refused(self, error: Error) -> Failure {
        Failure {
            error,
            doubt: self.doubt,
            moved: false,
            full: false,
        }
    }

    /// A node that says when to come again will not take it sooner; another that leads in its place may.
    fn is_to_be_told(&mut self, error: &Error) -> bool {
        error.retry_after_ms > 0
            && self.full_since.get_or_insert_with(Instant::now).elapsed() >= FULL_PATIENCE
    }

    fn full(self, error: Error) -> Failure {
        Failure {
            full: true,
            ..self.refused(error)
        }
    }

    fn timed_out(mut self) -> Failure {
        let refusal = self.refusal.take();
        let overloaded = refusal.filter(|e| e.code() == ErrorCode::Overloaded);
        let unavailable = "no leader of the shard answered in time";
        self.refused(overloaded.unwrap_or_else(|| Error::new(ErrorCode::Unavailable, unavailable)))
    }

    fn moved(self) -> Failure {
        let error = Error::new(ErrorCode::Unavailable, "the shard has been split");
        Failure {
            moved: true,
            ..self.refused(error)
        }
    }
}
