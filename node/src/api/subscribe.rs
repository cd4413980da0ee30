//! Which users' events a link wants.

use std::sync::Arc;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::link::v1::{
    Subscribe, SubscribeResult, Topic, Unsubscribe, response, topic::Name,
};
use parlance_proto::slot::Slot;

use super::{Answer, app, user};
use crate::link::LinkSession;
use crate::shard::{Shard, ShardError, UserTopic};

pub(super) fn subscribe(shard: &Shard, link: &Arc<LinkSession>, ask: Subscribe) -> Answer {
    let leadership = *shard.raft().leadership().borrow();
    if !leadership.leading {
        return Err(ShardError::NotLeader(leadership.leader));
    }
    let topics = ask
        .topics
        .iter()
        .map(user_topic)
        .collect::<Result<Vec<_>, _>>()?;
    for (app, user) in &topics {
        shard.owned(Slot::of_user(app, user))?;
    }
    let seamless = shard
        .subscriptions()
        .subscribe(leadership.term, link, topics, ask.complete);
    Ok(response::Body::Subscribe(SubscribeResult {
        term: leadership.term,
        seamless,
    }))
}

pub(super) fn unsubscribe(shard: &Shard, link: &Arc<LinkSession>, ask: Unsubscribe) {
    let topics: Vec<UserTopic> = ask
        .topics
        .iter()
        .filter_map(|topic| user_topic(topic).ok())
        .collect();
    shard.subscriptions().unsubscribe(link, &topics);
}

fn user_topic(topic: &Topic) -> Result<UserTopic, ShardError> {
    match &topic.name {
        Some(Name::UserId(id)) => Ok((app(&topic.app_id)?, user("subscribe.topics", id)?)),
        None => Err(ShardError::Refused(Error::new(
            ErrorCode::Unsupported,
            "this node does not know the kind of topic: it is older than the gateway",
        ))),
    }
}
