//! One push to all local sessions of its topic: they share its bytes, and nobody waits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parlance_proto::client::v1::{ResyncNotice, server_frame};
use parlance_proto::link::v1::{Publish, topic};
use uuid::Uuid;

use crate::bounds::Budget;
use crate::metrics::handles;
use crate::session::{Item, Push, Registry, User};

/// What each user who is told to resync adds to the time over which they do.
const RESYNC_EACH: Duration = Duration::from_millis(2);
/// However many they are.
const RESYNC_WITHIN_MAX: Duration = Duration::from_secs(10);

/// Queues the push for each local session of its topic. Its bytes count in `memory`, once.
pub fn deliver(registry: &Registry, memory: &Arc<Budget>, publish: &Publish) {
    let Some(topic) = &publish.topic else { return };
    let Some(topic::Name::UserId(user)) = &topic.name else {
        return;
    };
    let except = Uuid::try_parse(&publish.except_session_id).ok();
    let mut push = None;
    let mut pushed = 0;
    registry.for_each(&topic.app_id, user, |session| {
        if Some(session.id) == except {
            return;
        }
        // Copied, once for all: a part of the link's frame would keep the whole in memory, above the queues' bounds.
        let copy = || Arc::new(Push::new(Bytes::copy_from_slice(&publish.frame), memory));
        let push = push.get_or_insert_with(copy);
        pushed += u64::from(session.outbound.push(Item::Push(push.clone())));
    });
    handles().pushed.increment(pushed);
}

/// Tells all local sessions of some users that they may have missed something. The more they are, the longer is the time over
/// which they come for it: all of a shard lose their leader at one moment.
pub(super) fn resync(registry: &Registry, users: &[User]) {
    let within = RESYNC_EACH.saturating_mul(u32::try_from(users.len()).unwrap_or(u32::MAX));
    let within = within.min(RESYNC_WITHIN_MAX).as_millis();
    let notice = ResyncNotice {
        within_ms: u32::try_from(within).unwrap_or(u32::MAX),
    };
    let notice = Arc::new(Push::notice(server_frame::Body::Resync(notice)));
    let mut told = 0;
    for user in users {
        registry.for_each(user.app.as_str(), user.id.as_str(), |session| {
            told += u64::from(session.outbound.push(Item::Resync(notice.clone())));
        });
    }
    handles().resyncs.increment(told);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Outbound, Session};
    use parlance_proto::client::v1::ServerFrame;
    use parlance_proto::ids::{AppId, UserId};
    use parlance_proto::link::v1::Topic;
    use prost::Message as _;

    #[test]
    fn the_more_resync_the_longer_they_take_their_time() {
        let registry = Registry::default();
        let users: Vec<User> = (0..6_000)
            .map(|n| User {
                app: AppId::new("demo").unwrap(),
                id: UserId::new(format!("user-{n}")).unwrap(),
            })
            .collect();
        let session = Arc::new(Session::alone());
        registry.add(&users[0], &session);
        let mut within = |count: usize| {
            resync(&registry, &users[..count]);
            let mut notice = None;
            session.outbound.drain(|item| {
                if let Item::Resync(push) = item {
                    notice = ServerFrame::decode(push.frame().clone()).unwrap().body;
                }
                true
            });
            match notice {
                Some(server_frame::Body::Resync(notice)) => notice.within_ms,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([1, 1_000, 6_000].map(&mut within), [2, 2_000, 10_000]);
    }

    #[test]
    fn what_waits_for_a_slow_session_keeps_no_link_frame_in_memory() {
        let registry = Registry::default();
        let user = User {
            app: AppId::new("demo").unwrap(),
            id: UserId::new("alice").unwrap(),
        };
        let memory = Budget::new(1024);
        let outbound = Outbound::new(1024, 8, &memory);
        let session = Arc::new(Session::new(outbound, ([127, 0, 0, 1], 1).into()));
        registry.add(&user, &session);
        let link_frame = Bytes::from(vec![7; 4096]);
        let publish = Publish {
            topic: Some(Topic {
                app_id: "demo".into(),
                name: Some(topic::Name::UserId("alice".into())),
            }),
            frame: link_frame.slice(10..20),
            ..Publish::default()
        };
        deliver(&registry, &memory, &publish);
        drop(publish);
        assert_eq!(session.outbound.bytes(), 10);
        assert!(link_frame.is_unique(), "nothing else holds it");
    }
}
