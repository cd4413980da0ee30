//! Which users' events a link wants.

use std::sync::Arc;

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
    for (app, user) in topics.iter().flatten() {
        shard.owned(Slot::of_user(app, user))?;
    }
    let topics = topics.into_iter().flatten().collect();
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
        .filter_map(|topic| user_topic(topic).ok().flatten())
        .collect();
    shard.subscriptions().unsubscribe(link, &topics);
}

/// None for a kind of topic that this version does not have.
fn user_topic(topic: &Topic) -> Result<Option<UserTopic>, ShardError> {
    match &topic.name {
        Some(Name::UserId(id)) => Ok(Some((app(&topic.app_id)?, user("subscribe.topics", id)?))),
        None => Ok(None),
    }
}
