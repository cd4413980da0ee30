//! Which users this gateway is subscribed to, by home shard. The first session of a user waits until the shard's leader
//! has the subscription; after the last one it ends, a little later. When slots move to another shard, their users move
//! with them, and nobody else is concerned.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use parlance_proto::ids::ShardId;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::shard::{self, Shard};
use crate::cluster::{Router, SlotMap};
use crate::session::{Registry, User};

/// All subscriptions of this gateway.
#[derive(Debug, Default)]
pub struct Subscriptions {
    homes: RwLock<Homes>,
}

/// The users, by the shard of their home slot.
#[derive(Debug, Default)]
struct Homes {
    slots: SlotMap,
    shards: BTreeMap<ShardId, Arc<Shard>>,
}

impl Subscriptions {
    /// Keeps the leaders of all shards told, and follows the cluster's slots; runs until dropped.
    pub async fn run(self: Arc<Self>, router: Arc<Router>, registry: Arc<Registry>) {
        let mut topology = router.topology();
        let mut tasks: HashMap<ShardId, AbortOnDropHandle<()>> = HashMap::new();
        loop {
            let (slots, shards) = {
                let topology = topology.borrow_and_update();
                (
                    topology.slots().clone(),
                    topology.shards().collect::<Vec<_>>(),
                )
            };
            self.homes.write().move_to(slots, shards);
            for (id, shard) in &self.homes.read().shards {
                tasks.entry(*id).or_insert_with(|| {
                    let run = shard::run(*id, shard.clone(), router.clone(), registry.clone());
                    AbortOnDropHandle::new(tokio::spawn(run))
                });
            }
            if topology.changed().await.is_err() {
                return;
            }
        }
    }

    /// One more session of the user. Resolves when the leader has the subscription; fails if this gateway does
    /// not know the cluster. Whoever gives up waiting still calls [`Subscriptions::release`].
    pub fn acquire(&self, user: &User) -> Option<oneshot::Receiver<()>> {
        let homes = self.homes.read();
        let shard = homes.shard_of(user)?;
        let (sender, receiver) = oneshot::channel();
        if shard.inner.lock().topics.acquire(user, sender) {
            shard.changed.notify_one();
        }
        Some(receiver)
    }

    /// One session of the user less.
    pub fn release(&self, user: &User) {
        let homes = self.homes.read();
        if let Some(shard) = homes.shard_of(user)
            && shard.inner.lock().topics.release(user, Instant::now())
        {
            shard.changed.notify_one();
        }
    }
}

impl Homes {
    fn shard_of(&self, user: &User) -> Option<&Arc<Shard>> {
        self.shards.get(&self.slots.shard_of(user.home())?)
    }

    /// Moves the users whose slots have another owner, with what they may have missed and the leaders that knew them.
    fn move_to(&mut self, slots: SlotMap, shards: Vec<ShardId>) {
        if self.slots.is(&slots) {
            return;
        }
        self.slots = slots;
        for id in shards {
            self.shards.entry(id).or_default();
        }
        let now = Instant::now();
        for (id, parent) in &self.shards {
            let (moved, leaders) = {
                let mut inner = parent.inner.lock();
                let stays = |user: &User| {
                    let owner = self.slots.shard_of(user.home());
                    owner.is_none_or(|owner| owner == *id)
                };
                (inner.topics.move_out(stays), inner.leaders.clone())
            };
            let mut successors: Vec<&Arc<Shard>> = Vec::new();
            for (user, topic) in moved {
                let Some(child) = self.shard_of(&user) else {
                    continue;
                };
                let mut inner = child.inner.lock();
                inner.topics.move_in(user, topic, now);
                if !successors
                    .iter()
                    .any(|successor| Arc::ptr_eq(successor, child))
                {
                    inner.leaders.inherit(&leaders);
                    successors.push(child);
                }
            }
            if !successors.is_empty() {
                parent.changed.notify_one();
                successors
                    .iter()
                    .for_each(|successor| successor.changed.notify_one());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Topology;
    use parlance_proto::ids::{AppId, UserId};
    use parlance_proto::link::v1::ShardRoute;

    fn route(shard: u32, first_slot: u32, last_slot: u32, epoch: u64) -> ShardRoute {
        ShardRoute {
            shard,
            first_slot,
            last_slot,
            epoch,
        }
    }

    #[test]
    fn a_split_moves_the_users_of_its_slots_and_leaves_the_others_alone() {
        let mut topology = Topology::default();
        let mut homes = Homes::default();
        topology.add_routes(&[route(1, 0, 16_383, 1)]);
        homes.move_to(topology.slots().clone(), topology.shards().collect());
        let users: Vec<User> = (0..100)
            .map(|n| User {
                app: AppId::new("demo").unwrap(),
                id: UserId::new(format!("user-{n}")).unwrap(),
            })
            .collect();
        for user in &users {
            let shard = homes.shard_of(user).unwrap();
            let mut inner = shard.inner.lock();
            inner.topics.acquire(user, oneshot::channel().0);
            inner.topics.take_fresh();
            inner.topics.activate(std::slice::from_ref(user), true);
        }
        topology.add_routes(&[route(1, 0, 8191, 2), route(2, 8192, 16_383, 2)]);
        homes.move_to(topology.slots().clone(), topology.shards().collect());
        let inner = |shard| homes.shards[&ShardId(shard)].inner.lock();
        let stayed = inner(1).topics.active();
        let moved = inner(2).topics.all();
        assert_eq!(stayed.len() + moved.len(), users.len());
        assert!(stayed.iter().all(|user| user.home().number() < 8192));
        assert!(moved.iter().all(|user| user.home().number() >= 8192));
        assert!(inner(2).topics.active().is_empty());
        assert_eq!(inner(1).topics.take_moved().len(), moved.len());
        assert!(inner(1).topics.take_fresh().is_empty());
    }
}
