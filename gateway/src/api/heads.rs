//! Heads of conversations, asked of their shards.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures::future::join_all;
use parlance_proto::client::v1::{Conversation, ConversationKind};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{ConversationId, ShardId};
use parlance_proto::link::v1::{self as link, HeadsResult};
use tokio::time::{Instant, timeout};

use super::{Api, slot_of};
use crate::cluster::{Backoff, Failure, Place};
use crate::metrics::handles;
use crate::session::Caller;

/// Shards may be split while their heads are asked for: the next round waits for news of the cluster, or so long.
const PAUSE_LEAST: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(200);
/// How long a page waits for the heads of its conversations, in all its steps together. One shard that has no majority does
/// not keep it back; its conversations come without their heads.
const HEADS_WITHIN: Duration = Duration::from_secs(4);

/// Asks for the heads of one page.
pub(super) struct Heads<'a> {
    api: &'a Api,
    caller: &'a Caller,
    time: Time,
    /// Shards that did not answer in time: nobody waits for them twice.
    silent: HashSet<ShardId>,
}

impl<'a> Heads<'a> {
    /// For a request that has to be answered by then.
    pub(super) fn new(api: &'a Api, caller: &'a Caller, deadline: Instant) -> Self {
        Self {
            api,
            caller,
            time: Time::until(deadline),
            silent: HashSet::new(),
        }
    }

    /// There is no time left in which a shard would have a chance to answer.
    pub(super) fn too_late(&self) -> bool {
        self.time.is_over()
    }

    /// These conversations by their ids, each shard asked once for all of its. Those of shards that do not answer in time come
    /// without their heads, and those whose kind this gateway does not know do not come.
    pub(super) async fn of<'i>(
        &mut self,
        ids: impl Iterator<Item = &'i str>,
    ) -> Result<HashMap<String, Conversation>, Error> {
        let ids: Vec<_> = ids
            .filter_map(|id| ConversationId::parse(id).ok())
            .collect();
        handles().heads.increment(ids.len() as u64);
        let mut found = self.ask(ids.clone()).await?;
        for id in &ids {
            found.entry(id.into()).or_insert_with(|| {
                handles().heads_unknown.increment(1);
                self.without_head(id)
            });
        }
        Ok(found)
    }

    async fn ask(
        &mut self,
        mut missing: Vec<ConversationId>,
    ) -> Result<HashMap<String, Conversation>, Error> {
        let deadline = self.time.step();
        let mut found = HashMap::new();
        let mut topology = self.api.router.topology();
        let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
        loop {
            topology.mark_unchanged();
            let asked = self.by_shard(&missing)?.into_iter();
            let asked = asked.map(|(shard, ids)| self.heads_of(shard, ids, deadline));
            let answers = join_all(asked).await;
            missing = Vec::new();
            for (shard, ids, answer) in answers {
                match answer {
                    Ok(heads) => found.extend(
                        heads
                            .conversations
                            .into_iter()
                            .map(|c| (c.conversation_id.clone(), c)),
                    ),
                    Err(failure) if failure.moved => missing.extend(ids),
                    Err(failure) if failure.error.is_retryable() => {
                        self.silent.insert(shard);
                    }
                    Err(failure) => return Err(failure.error),
                }
            }
            if missing.is_empty() || Instant::now() >= deadline {
                return Ok(found);
            }
            let _ = timeout(backoff.pause(), topology.changed()).await;
        }
    }

    fn by_shard(
        &self,
        ids: &[ConversationId],
    ) -> Result<BTreeMap<ShardId, Vec<ConversationId>>, Error> {
        let mut by_shard: BTreeMap<ShardId, Vec<ConversationId>> = BTreeMap::new();
        self.api.router.with_topology(|topology| {
            for id in ids {
                let shard = topology
                    .shard_of(slot_of(self.caller, id))
                    .ok_or_else(unavailable)?;
                if !self.silent.contains(&shard) {
                    by_shard.entry(shard).or_default().push(id.clone());
                }
            }
            Ok(by_shard)
        })
    }

    async fn heads_of(
        &self,
        shard: ShardId,
        ids: Vec<ConversationId>,
        deadline: Instant,
    ) -> (ShardId, Vec<ConversationId>, Result<HeadsResult, Failure>) {
        let ask = link::Heads {
            app_id: (&self.caller.user.app).into(),
            user_id: (&self.caller.user.id).into(),
            conversation_ids: ids.iter().map(Into::into).collect(),
        };
        let call = self.api.router.call(Place::Shard(shard), &ask, deadline);
        (shard, ids, call.await.map(|answered| answered.answer))
    }

    /// A conversation whose shard did not answer.
    fn without_head(&self, id: &ConversationId) -> Conversation {
        let (kind, peer) = match id {
            ConversationId::Direct(users) => (
                ConversationKind::Direct,
                users.peer_of(&self.caller.user.id).map(Into::into),
            ),
            _ => (ConversationKind::Unspecified, None),
        };
        Conversation {
            conversation_id: id.into(),
            kind: kind.into(),
            peer: peer.unwrap_or_default(),
            head_unknown: true,
            ..Conversation::default()
        }
    }
}

/// The time that a page has for its heads. A step in which a shard is silent leaves some to those behind it, whose shards may
/// be well: the first waits for 3 of 4 s, longer than a failover takes.
struct Time {
    whole: Duration,
    end: Instant,
}

impl Time {
    fn until(deadline: Instant) -> Self {
        let now = Instant::now();
        let whole = deadline.saturating_duration_since(now).min(HEADS_WITHIN);
        Self {
            whole,
            end: now + whole,
        }
    }

    /// When a step that begins now has to be over.
    fn step(&self) -> Instant {
        self.end - self.left() / 4
    }

    fn is_over(&self) -> bool {
        self.left() < self.whole / 8
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

fn unavailable() -> Error {
    Error::new(
        ErrorCode::Unavailable,
        "the shards of the conversations are not known",
    )
}
