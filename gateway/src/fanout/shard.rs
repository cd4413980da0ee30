//! Keeps one shard's leader told of this gateway's topics: all of them once per leader and link session
//! (`complete`, with none too), what is new or over after that. One request at a time, so that the last word counts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parlance_proto::client::v1::{ResyncNotice, server_frame};
use parlance_proto::link::v1::{
    Subscribe, SubscribeResult, Topic, Unsubscribe, request, response, topic,
};
use tokio::time::{Instant, sleep_until};

use super::push::SharedFrame;
use super::topics::ShardTopics;
use crate::link::route::{Answer, Router};
use crate::link::view::View;
use crate::metrics::RESYNCS;
use crate::session::User;
use crate::session::registry::Registry;

/// A leader that we left may have given events up only because our link to it was broken; when we learn of the break
/// within this time, what it had for us counts as missed. Longer than both ends need to notice a broken link.
const BREAK_NOTICED_WITHIN: Duration = Duration::from_secs(15);
/// One attempt; the loop tries again after it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Which leader knows our topics.
#[derive(Debug, Clone, Copy)]
struct Told {
    node_id: u64,
    term: u64,
    link_session: u64,
}

impl Told {
    /// Whether the link that it was told on is still the same.
    fn is_linked(self, view: &View) -> bool {
        view.link_sessions.get(&self.node_id) == Some(&self.link_session)
    }

    fn stands(self, view: &View, shard: u32) -> bool {
        self.is_linked(view)
            && view.term(shard) <= self.term
            && view.leader(shard) == Some(self.node_id)
    }
}

/// Runs until dropped.
pub(super) async fn run(
    shard: u32,
    topics: Arc<ShardTopics>,
    router: Arc<Router>,
    registry: Arc<Registry>,
) {
    let mut view = router.view();
    let mut told: Option<Told> = None;
    // Users that may have missed events since the last leader that knew them.
    let mut unsure: HashSet<User> = HashSet::new();
    // The leader before, while a break of its link may still come to light.
    let mut left: Option<(Told, Instant)> = None;
    loop {
        let (stands, linked) = {
            let view = view.borrow_and_update();
            left = left.filter(|(_, since)| since.elapsed() < BREAK_NOTICED_WITHIN);
            let linked = left.is_none_or(|(t, _)| t.is_linked(&view));
            (told.is_some_and(|t| t.stands(&view, shard)), linked)
        };
        if !stands {
            unsure.extend(topics.inner.lock().deactivate());
            left = told.take().map(|t| (t, Instant::now())).or(left);
            told = tell_all(shard, &topics, &router, &registry, &mut unsure).await;
            continue;
        }
        if !linked {
            left = None;
            resync(&registry, &topics.inner.lock().active());
        }
        let (fresh, idle_at) = {
            let mut inner = topics.inner.lock();
            (inner.take_fresh(), inner.next_idle())
        };
        if !fresh.is_empty() {
            let body = subscribe(&fresh, false);
            match call(&router, shard, body).await {
                Some(answer)
                    if told.is_some_and(|t| {
                        t.node_id == answer.node_id && t.link_session == answer.link_session
                    }) =>
                {
                    topics.inner.lock().activate(&fresh);
                }
                _ => told = None,
            }
            continue;
        }
        let over = topics.inner.lock().take_idle(Instant::now());
        if !over.is_empty() {
            let body = request::Body::Unsubscribe(Unsubscribe {
                topics: over.iter().map(to_topic).collect(),
            });
            if call(&router, shard, body).await.is_none() {
                told = None;
            }
            continue;
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = topics.changed.notified() => {}
            () = sleep_until(idle_at.unwrap_or_else(Instant::now)), if idle_at.is_some() => {}
        }
    }
}

/// Tells the leader all topics; sessions that may have missed something are told to resync.
async fn tell_all(
    shard: u32,
    topics: &ShardTopics,
    router: &Router,
    registry: &Registry,
    unsure: &mut HashSet<User>,
) -> Option<Told> {
    let all = topics.inner.lock().all();
    let answer = call(router, shard, subscribe(&all, true)).await?;
    let response::Body::Subscribe(SubscribeResult { term, seamless }) = answer.body else {
        return None;
    };
    router.lead(shard, answer.node_id, term);
    if !seamless {
        resync(registry, &*unsure);
    }
    unsure.clear();
    topics.inner.lock().activate(&all);
    let term = term.max(router.with_view(|v| {
        if v.leader(shard) == Some(answer.node_id) {
            v.term(shard)
        } else {
            0
        }
    }));
    Some(Told {
        node_id: answer.node_id,
        term,
        link_session: answer.link_session,
    })
}

async fn call(router: &Router, shard: u32, body: request::Body) -> Option<Answer> {
    match router
        .call(shard, body, Instant::now() + CALL_TIMEOUT)
        .await
    {
        Ok(answer) => Some(answer),
        Err(failure) => {
            tracing::debug!(shard, error = %failure.error, "cannot subscribe, trying again");
            // A refusal comes back at once: do not ask in a tight loop.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn resync<'a>(registry: &Registry, users: impl IntoIterator<Item = &'a User>) {
    let mut frame = SharedFrame::new(server_frame::Body::Resync(ResyncNotice {}));
    let mut told = 0;
    for user in users {
        registry.for_each(&user.app_id, &user.user_id, |session| {
            told += u64::from(session.outbound.push(frame.get(session.format)));
        });
    }
    metrics::counter!(RESYNCS).increment(told);
}

fn subscribe(users: &[User], complete: bool) -> request::Body {
    request::Body::Subscribe(Subscribe {
        topics: users.iter().map(to_topic).collect(),
        complete,
    })
}

fn to_topic(user: &User) -> Topic {
    Topic {
        app_id: user.app_id.to_string(),
        name: Some(topic::Name::UserId(user.user_id.to_string())),
    }
}
