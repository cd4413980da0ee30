//! Keeps one shard's leader told of this gateway's topics: all of them once per leader and link session
//! (`complete`, with none too), what is new or over after that. One request at a time, so that the last word counts.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::ids::ShardId;
use parlance_proto::link::v1::{Subscribe, SubscribeResult, Topic, Unsubscribe, topic};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::deliver::resync;
use super::leader::{Leaders, Told};
use super::topics::Topics;
use crate::cluster::{Answered, Ask, Failure, Place, Router, Topology};
use crate::session::{Registry, User};

/// One attempt; the loop tries again after it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After a refusal or an answer of an old term, which come back at once; at most, until moved users have gone.
const PAUSE: Duration = Duration::from_millis(100);

/// The subscriptions in one shard, and who knows them.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) inner: Mutex<Inner>,
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) topics: Topics,
    pub(super) leaders: Leaders,
}

/// What is to be done next.
enum Step {
    TellAll,
    Tell(Vec<User>),
    Forget(Vec<User>),
    Wait(Option<Instant>),
}

/// Runs until dropped.
pub(super) async fn run(
    id: ShardId,
    shard: Arc<Shard>,
    router: Arc<Router>,
    registry: Arc<Registry>,
) {
    let mut topology = router.topology();
    loop {
        let (step, missed) = {
            let topology = topology.borrow_and_update();
            shard.inner.lock().next(&topology, id, Instant::now())
        };
        if !missed.is_empty() {
            resync(&registry, &missed);
        }
        match step {
            Step::TellAll => tell_all(id, &shard, &router, &registry).await,
            Step::Tell(fresh) => tell(id, &shard, &router, &registry, fresh).await,
            Step::Forget(over) => forget(id, &shard, &router, &over).await,
            Step::Wait(until) => tokio::select! {
                changed = topology.changed() => if changed.is_err() { return },
                () = shard.changed.notified() => {}
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
            },
        }
    }
}

impl Inner {
    /// The next step, and who has missed something for certain and can catch up at once.
    fn next(&mut self, topology: &Topology, id: ShardId, now: Instant) -> (Step, Vec<User>) {
        let change = self.leaders.look(topology, id, now);
        let mut missed = Vec::new();
        if change.broken && self.leaders.told().is_some() {
            missed = self.topics.active();
        } else if change.broken {
            self.topics.miss();
        }
        if change.left {
            self.topics.leave();
        }
        if self.leaders.told().is_none() {
            return (Step::TellAll, missed);
        }
        let fresh = self.topics.take_fresh();
        if !fresh.is_empty() {
            return (Step::Tell(fresh), missed);
        }
        let mut over = self.topics.take_moved();
        over.extend(self.topics.take_idle(now));
        if over.is_empty() {
            (Step::Wait(self.topics.next_idle()), missed)
        } else {
            (Step::Forget(over), missed)
        }
    }

    fn distrust(&mut self) {
        if self.leaders.distrust() {
            self.topics.leave();
        }
    }
}

/// Tells the leader all topics; sessions that may have missed something are told to resync.
async fn tell_all(id: ShardId, shard: &Shard, router: &Router, registry: &Registry) {
    let all = shard.inner.lock().topics.all();
    let Ok(answered) = call(id, router, &subscribe(&all, true)).await else {
        return sleep(PAUSE).await;
    };
    let SubscribeResult { term, seamless } = answered.answer;
    router.lead(id, answered.node, term);
    let missed = {
        let mut inner = shard.inner.lock();
        let follows = inner.leaders.tell(told(&answered), Instant::now());
        inner.topics.activate(&all, seamless && follows)
    };
    if !missed.is_empty() {
        resync(registry, &missed);
    }
    if router.with_topology(|topology| topology.term(id)) > term {
        // An answer of an old term: the leader of the new one is asked, a little later.
        sleep(PAUSE).await;
    }
}

/// Tells the leader topics in addition.
async fn tell(id: ShardId, shard: &Shard, router: &Router, registry: &Registry, fresh: Vec<User>) {
    let answered = call(id, router, &subscribe(&fresh, false)).await;
    if answered.as_ref().is_err_and(|failure| failure.moved) {
        // Nothing was done. Some are another shard's, to which they move soon; the others are told again then.
        shard.inner.lock().topics.put_back(fresh);
        let _ = timeout(PAUSE, shard.changed.notified()).await;
        return;
    }
    let missed = {
        let mut inner = shard.inner.lock();
        let known = answered.as_ref().ok().map(told);
        if known.is_some() && known == inner.leaders.told() {
            // Who comes from another shard may have missed something since.
            inner.topics.activate(&fresh, false)
        } else {
            inner.distrust();
            Vec::new()
        }
    };
    if !missed.is_empty() {
        resync(registry, &missed);
    }
    if answered.is_err() {
        sleep(PAUSE).await;
    }
}

/// Tells the leader what is over. If it does not take it, it is told everything anew.
async fn forget(id: ShardId, shard: &Shard, router: &Router, over: &[User]) {
    let topics = over.iter().map(to_topic).collect();
    // A shard that has been split forgets the users of its old slots itself.
    if let Err(failure) = call(id, router, &Unsubscribe { topics }).await
        && !failure.moved
    {
        shard.inner.lock().distrust();
        sleep(PAUSE).await;
    }
}

fn told(answered: &Answered<SubscribeResult>) -> Told {
    Told {
        node: answered.node,
        term: answered.answer.term,
        link_session: answered.link_session,
    }
}

async fn call<A: Ask>(
    id: ShardId,
    router: &Router,
    ask: &A,
) -> Result<Answered<A::Answer>, Failure> {
    let deadline = Instant::now() + CALL_TIMEOUT;
    let answered = router.call(Place::Shard(id), ask, deadline).await;
    if let Err(failure) = &answered {
        tracing::debug!(shard = %id, error = %failure.error, "cannot subscribe, trying again");
    }
    answered
}

fn subscribe(users: &[User], complete: bool) -> Subscribe {
    Subscribe {
        topics: users.iter().map(to_topic).collect(),
        complete,
    }
}

fn to_topic(user: &User) -> Topic {
    Topic {
        app_id: (&user.app).into(),
        name: Some(topic::Name::UserId((&user.id).into())),
    }
}
