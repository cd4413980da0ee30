//! Who is subscribed, who resyncs, and who moves.

use parlance_proto::ids::{AppId, UserId};

use super::*;

fn user(id: &str) -> User {
    User {
        app: AppId::new("demo").unwrap(),
        id: UserId::new(id).unwrap(),
    }
}

fn subscribed(users: &[&str]) -> (Topics, Vec<User>) {
    let mut topics = Topics::default();
    let users: Vec<User> = users.iter().map(|id| user(id)).collect();
    for user in &users {
        topics.acquire(user, oneshot::channel().0);
    }
    assert_eq!(topics.take_fresh(), users);
    assert!(
        topics.activate(&users, false).is_empty(),
        "nobody was before"
    );
    (topics, users)
}

#[test]
fn first_session_subscribes_and_the_last_one_ends_it_later() {
    let mut topics = Topics::default();
    let alice = user("alice");
    let (waiter, mut told) = oneshot::channel();
    assert!(topics.acquire(&alice, waiter));
    assert_eq!(topics.take_fresh(), std::slice::from_ref(&alice));
    assert!(told.try_recv().is_err());
    topics.activate(std::slice::from_ref(&alice), true);
    assert!(told.try_recv().is_ok());
    let (waiter, mut told) = oneshot::channel();
    assert!(
        !topics.acquire(&alice, waiter),
        "a second session needs nothing new"
    );
    assert!(told.try_recv().is_ok());
    let now = Instant::now();
    assert!(!topics.release(&alice, now));
    assert!(topics.release(&alice, now));
    assert!(topics.take_idle(now).is_empty());
    assert_eq!(topics.take_idle(now + LINGER), [alice]);
    assert!(topics.topics.is_empty());
}

#[test]
fn a_seamless_change_of_leaders_needs_no_resync_unless_a_link_was_lost() {
    let (mut topics, users) = subscribed(&["alice", "bob"]);
    topics.leave();
    assert!(topics.activate(&users, true).is_empty());
    topics.leave();
    assert_eq!(topics.activate(&users, false), users);
    topics.leave();
    topics.miss();
    topics.leave();
    assert_eq!(topics.activate(&users, true), users, "missed stays missed");
    topics.leave();
    assert!(topics.activate(&users, true).is_empty(), "told once");
}

#[test]
fn users_that_move_take_along_what_they_may_have_missed() {
    let (mut parent, users) = subscribed(&["alice", "bob"]);
    let carol = user("carol");
    let (waiter, mut told) = oneshot::channel();
    parent.acquire(&carol, waiter);
    parent.release(&users[1], Instant::now());
    let mut child = Topics::default();
    for (user, topic) in parent.move_out(|user| user.id.as_str() == "alice") {
        child.move_in(user, topic, Instant::now());
    }
    assert_eq!(parent.all(), [users[0].clone()]);
    assert!(parent.next_idle().is_none());
    let mut moved = parent.take_moved();
    moved.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(moved, [users[1].clone(), carol.clone()]);
    let all = child.all();
    assert_eq!(
        child.activate(&all, false),
        [users[1].clone()],
        "carol was not subscribed before"
    );
    assert!(
        told.try_recv().is_ok(),
        "a login that waits is answered there"
    );
    assert!(child.next_idle().is_some());
    assert!(parent.activate(&users, false).is_empty());
}

#[test]
fn who_could_not_be_told_of_is_told_of_again_unless_moved_or_gone() {
    let (mut topics, _) = subscribed(&[]);
    let users = ["alice", "bob"].map(user);
    for user in &users {
        topics.acquire(user, oneshot::channel().0);
    }
    let fresh = topics.take_fresh();
    topics.move_out(|user| user.id.as_str() == "alice");
    topics.put_back(fresh);
    assert_eq!(topics.take_fresh(), [users[0].clone()]);
}
