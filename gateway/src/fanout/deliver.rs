//! One push to all local sessions of its topic: they share its bytes, and nobody waits.

use std::sync::Arc;

use bytes::Bytes;
use parlance_proto::client::v1::{ResyncNotice, server_frame};
use parlance_proto::link::v1::{Publish, topic};
use uuid::Uuid;

use crate::metrics::handles;
use crate::session::{Item, Push, Registry, User};

/// Queues the push for each local session of its topic.
pub fn deliver(registry: &Registry, publish: &Publish) {
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
        let copy = || Arc::new(Push::new(Bytes::copy_from_slice(&publish.frame)));
        let push = push.get_or_insert_with(copy);
        pushed += u64::from(session.outbound.push(Item::Push(push.clone())));
    });
    handles().pushed.increment(pushed);
}

/// Tells all local sessions of some users that they may have missed something.
pub(super) fn resync<'a>(registry: &Registry, users: impl IntoIterator<Item = &'a User>) {
    let notice = Arc::new(Push::notice(server_frame::Body::Resync(
        ResyncNotice::default(),
    )));
    let mut told = 0;
    for user in users {
        registry.for_each(user.app.as_str(), user.id.as_str(), |session| {
            told += u64::from(session.outbound.push(Item::Push(notice.clone())));
        });
    }
    handles().resyncs.increment(told);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Outbound, Session};
    use parlance_proto::ids::{AppId, UserId};
    use parlance_proto::link::v1::Topic;

    #[test]
    fn what_waits_for_a_slow_session_keeps_no_link_frame_in_memory() {
        let registry = Registry::default();
        let user = User {
            app: AppId::new("demo").unwrap(),
            id: UserId::new("alice").unwrap(),
        };
        let session = Arc::new(Session::new(Outbound::new(1024, 8)));
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
        deliver(&registry, &publish);
        drop(publish);
        assert_eq!(session.outbound.bytes(), 10);
        assert!(link_frame.is_unique(), "nothing else holds it");
    }
}
