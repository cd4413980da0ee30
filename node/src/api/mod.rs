//! What a gateway can ask of a shard: each request is checked here once, becomes typed, goes to its shard, and its answer
//! goes back to the link.

mod read;
mod send;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{AppId, ConversationId, IdError, NodeId, ShardId, UserId};
use parlance_proto::link::v1::{
    Moved, NotLeader, Request, Response, ShardRoute, UnsubscribeResult, request, response,
};
use parlance_proto::slot::SlotRange;

use crate::apply::OwnedRange;
use crate::conversation::{is_carried, not_carried};
use crate::link::{LinkSession, Turn};
use crate::meta::Leaders;
use crate::metrics;
use crate::shard::{ShardError, Shards};

/// A full queue of reads has room again about then.
const READS_RETRY_AFTER: Duration = Duration::from_millis(500);

type Answer = Result<response::Body, ShardError>;

/// Answers gateways' requests with the shards of this node.
#[derive(Clone)]
pub struct Api {
    /// The shards of this node.
    pub shards: Shards,
    /// Who leads what, for requests that came to the wrong node.
    pub leaders: Leaders,
}

/// Where the answer of one request goes.
struct Reply {
    link: Arc<LinkSession>,
    id: u64,
    shard: ShardId,
}

impl Api {
    /// Starts a request; its answer goes to the link whenever it is there.
    pub fn dispatch(&self, link: &Arc<LinkSession>, request: Request) {
        let reply = Reply {
            link: link.clone(),
            id: request.id,
            shard: ShardId(request.shard),
        };
        let Some(shard) = self.shards.get(reply.shard) else {
            let leader = self.leaders.of(reply.shard);
            return reply.answer(Err(ShardError::NotLeader(leader)));
        };
        match request.body {
            Some(request::Body::Send(ask)) => send::send(&shard, ask, reply),
            Some(request::Body::MarkRead(ask)) => read::mark_read(&shard, ask, reply),
            Some(request::Body::History(ask)) => {
                reply.in_turn(|turn| read::history(shard, ask, turn));
            }
            Some(request::Body::Heads(ask)) => {
                reply.in_turn(|turn| read::heads(shard, ask, turn));
            }
            Some(request::Body::ListConversations(ask)) => {
                reply.in_turn(|turn| read::list_conversations(shard, ask, turn));
            }
            Some(request::Body::Subscribe(ask)) => {
                let link = link.clone();
                reply.answer(subscribe::subscribe(&shard, &link, ask));
            }
            Some(request::Body::Unsubscribe(ask)) => {
                subscribe::unsubscribe(&shard, link, ask);
                reply.answer(Ok(response::Body::Unsubscribe(UnsubscribeResult {})));
            }
            None => reply.answer(Err(ShardError::Refused(Error::new(
                ErrorCode::Unsupported,
                "this node does not know the request: it is older than the gateway",
            )))),
        }
    }
}

impl Reply {
    fn answer(self, answer: Answer) {
        let body = match answer {
            Ok(body) => body,
            Err(error) => self.body_of(error),
        };
        let (id, body) = (self.id, Some(body));
        self.link.respond(Response { id, body });
    }

    /// Answers a read when it was its turn.
    fn in_turn<F>(self, read: impl FnOnce(Turn) -> F)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let Some(turn) = self.link.queue_read() else {
            metrics::read_refused();
            let error = "too many reads of this gateway wait";
            let error = Error::overloaded(error, READS_RETRY_AFTER);
            return self.answer(Err(ShardError::Refused(error)));
        };
        let answer = read(turn);
        tokio::spawn(async move { self.answer(answer.await) });
    }

    fn body_of(&self, error: ShardError) -> response::Body {
        match error {
            ShardError::NotLeader(leader) => response::Body::NotLeader(NotLeader {
                leader_node_id: NodeId::or_zero(leader),
            }),
            ShardError::Moved(range) => response::Body::Moved(Moved {
                routes: routes(self.shard, &range),
            }),
            error => {
                if let ShardError::Store(damage) = &error {
                    tracing::error!(shard = %self.shard, error = %damage, "a read failed");
                }
                let error = Error::from(error);
                metrics::request_refused(error.code());
                response::Body::Error(error)
            }
        }
    }
}

/// What a shard owns, and what it was split into: more than enough to find the owner of a slot that it had.
fn routes(shard: ShardId, range: &OwnedRange) -> Vec<ShardRoute> {
    let route = |shard, slots: SlotRange, epoch| ShardRoute {
        shard,
        first_slot: slots.first().number().into(),
        last_slot: slots.last().number().into(),
        epoch,
    };
    let own = range.slots.map(|slots| route(shard.0, slots, range.epoch));
    let children = range.splits.iter().filter_map(|split| {
        let slots = SlotRange::new(split.first_slot, split.last_slot)?;
        Some(route(split.child, slots, split.epoch))
    });
    own.into_iter().chain(children).collect()
}

fn invalid(field: &str, error: &IdError) -> ShardError {
    ShardError::Refused(Error::invalid(field, error.to_string()))
}

fn app(id: &str) -> Result<AppId, ShardError> {
    AppId::new(id).map_err(|e| invalid("app_id", &e))
}

fn user(field: &str, id: &str) -> Result<UserId, ShardError> {
    UserId::new(id).map_err(|e| invalid(field, &e))
}

/// The ids of a request that becomes a command, which has them as text.
fn check_ids(
    app_id: &str,
    conversation_id: &str,
    (field, user_id): (&str, &str),
) -> Result<(), ShardError> {
    app(app_id)?;
    conversation(conversation_id)?;
    user(field, user_id)?;
    Ok(())
}

fn conversation(id: &str) -> Result<ConversationId, ShardError> {
    let parsed = ConversationId::parse(id).map_err(|e| invalid("conversation_id", &e))?;
    if is_carried(&parsed) {
        Ok(parsed)
    } else {
        Err(ShardError::Refused(not_carried()))
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::store::v1::SplitCommand;

    use super::*;

    #[test]
    fn a_moved_slot_is_found_by_the_routes_of_the_shard_that_had_it() {
        let split = |child, first_slot, last_slot, epoch| SplitCommand {
            child,
            first_slot,
            last_slot,
            epoch,
        };
        let range = OwnedRange {
            slots: SlotRange::new(0, 9),
            epoch: 3,
            splits: vec![split(4, 20, 99, 2), split(5, 10, 19, 3)],
        };
        let routes = routes(ShardId(1), &range);
        let shown = routes
            .iter()
            .map(|r| (r.shard, r.first_slot, r.last_slot, r.epoch));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [(1, 0, 9, 3), (4, 20, 99, 2), (5, 10, 19, 3)]
        );
    }
}
