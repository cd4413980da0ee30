//! The cluster's state for gateways: the whole of it at once, and after that what has changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parlance_proto::ids::{NodeId, ShardId};
use parlance_proto::link::v1::{
    App, AppSecret, ClusterUpdate, DeniedCertificates, Kick, Node, ShardLeader, ShardRoute,
};
use parlance_proto::store::v1 as stored;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use super::pages::pages;
use super::{Lead, Leaders, MetaState, MetaWatch, Route};

/// Changes that come together (a node fails: a third of the shards get new leaders) go out together.
const GATHER: Duration = Duration::from_millis(10);

/// What one watcher was told so far, and where it learns what is new.
struct Watcher {
    meta: MetaWatch,
    leaders: watch::Receiver<BTreeMap<ShardId, Lead>>,
    shown: Option<Shown>,
    /// What is left of the update that brings it to what is shown.
    pages: VecDeque<ClusterUpdate>,
    with_secrets: bool,
    stop: CancellationToken,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Shown {
    state: Arc<MetaState>,
    leaders: BTreeMap<ShardId, Lead>,
}

/// The cluster's state, now and after each change, until `stop`; without apps and kicks unless the secrets are wanted.
pub fn watch_cluster(
    meta: MetaWatch,
    leaders: &Leaders,
    with_secrets: bool,
    stop: CancellationToken,
) -> impl Stream<Item = ClusterUpdate> + Send + use<> {
    let watcher = Watcher {
        meta,
        leaders: leaders.watch(),
        shown: None,
        pages: VecDeque::new(),
        with_secrets,
        stop,
    };
    futures::stream::unfold(watcher, |mut watcher| async move {
        let update = watcher.next().await?;
        Some((update, watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<ClusterUpdate> {
        if !self.pages.is_empty() && !self.stop.is_cancelled() {
            return self.pages.pop_front();
        }
        if self.shown.is_some() {
            let changed = async {
                tokio::select! {
                    meta = self.meta.changed() => meta.is_ok(),
                    leaders = self.leaders.changed() => leaders.is_ok(),
                }
            };
            if self.stop.run_until_cancelled(changed).await != Some(true) {
                return None;
            }
            sleep(GATHER).await;
        }
        let now = Shown {
            state: self.meta.borrow_and_update().clone(),
            leaders: self.leaders.borrow_and_update().clone(),
        };
        let mut update = update(self.shown.as_ref(), &now);
        if !self.with_secrets {
            update.apps.clear();
            update.kicks.clear();
        }
        self.shown = Some(now);
        self.pages = pages(update);
        self.pages.pop_front()
    }
}

/// What has changed since `before`; all of it if there was nothing before.
fn update(before: Option<&Shown>, now: &Shown) -> ClusterUpdate {
    let nothing = Shown::default();
    let whole = before.is_none();
    let before = before.unwrap_or(&nothing);
    let (old, new) = (&*before.state, &*now.state);
    let routes = new.routes().iter();
    let leaders = now.leaders.iter().filter(|(shard, lead)| {
        **shard != ShardId::META && before.leaders.get(shard) != Some(lead)
    });
    let is_new = whole || !Arc::ptr_eq(&before.state, &now.state);
    let apps = new.apps().iter().filter(|_| is_new);
    ClusterUpdate {
        cluster_id: new.map().map(|m| m.cluster_id.clone()).unwrap_or_default(),
        map_version: new.version(),
        whole,
        nodes: if nodes(old) == nodes(new) {
            Vec::new()
        } else {
            nodes(new)
        },
        shards: routes
            .filter(|route| !old.routes().contains(route))
            .map(shard_route)
            .collect(),
        leaders: leaders
            .map(|(shard, lead)| ShardLeader {
                shard: shard.0,
                node_id: NodeId::or_zero(lead.node),
                term: lead.term,
            })
            .collect(),
        apps: apps
            .filter(|(id, app)| old.apps().get(*id) != Some(app))
            .map(|(_, shown)| app(shown))
            .collect(),
        feature_level: new.map().map_or(0, |map| map.feature_level),
        kicks: kicks(old, new),
        denied: (whole || denied(old) != denied(new)).then(|| denied(new)),
        more: false,
    }
}

fn denied(state: &MetaState) -> DeniedCertificates {
    let denied = state.map().map_or(&[][..], |map| &map.denied_certificates);
    DeniedCertificates {
        serials: denied.iter().map(|denied| denied.serial.clone()).collect(),
    }
}

fn kicks(old: &MetaState, new: &MetaState) -> Vec<Kick> {
    if Arc::ptr_eq(old.kicks(), new.kicks()) {
        return Vec::new();
    }
    let (before, now) = (old.kicks(), new.kicks());
    let changed = now.iter().filter(|(user, k)| before.get(*user) != Some(k));
    let forgotten = before.iter().filter(|(user, _)| !now.contains_key(*user));
    let forgotten = forgotten.map(|((app_id, user_id), _)| Kick {
        app_id: app_id.clone(),
        user_id: user_id.clone(),
        ..Kick::default()
    });
    changed
        .map(|(_, shown)| kick(shown))
        .chain(forgotten)
        .collect()
}

fn kick(kick: &stored::Kick) -> Kick {
    Kick {
        app_id: kick.app_id.clone(),
        user_id: kick.user_id.clone(),
        kicked_ms: kick.kicked_ms,
        until_ms: kick.until_ms,
        reason: kick.reason.clone(),
    }
}

fn nodes(state: &MetaState) -> Vec<Node> {
    let members = state.members().map(|node| Node {
        node_id: node.node_id,
        link_address: node.link_address.clone(),
    });
    members.collect()
}

fn shard_route(route: &Route) -> ShardRoute {
    ShardRoute {
        shard: route.shard.0,
        first_slot: route.range.first().number().into(),
        last_slot: route.range.last().number().into(),
        epoch: route.epoch,
    }
}

fn app(app: &stored::App) -> App {
    let secrets = app.secrets.iter().map(|secret| AppSecret {
        secret_id: secret.secret_id.clone(),
        secret: secret.secret.clone(),
        format: secret.format,
    });
    App {
        app_id: app.app_id.clone(),
        secrets: secrets.collect(),
        disabled: app.disabled,
        token_life_max_ms: app.token_life_max_ms,
        limits: app.limits,
        aliases: app.aliases.clone(),
        token_policy: app.token_policy,
        token_life_ever_ms: app.token_life_ever_ms,
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use parlance_proto::store::v1::{ClusterMap, MapNode, MapShard, NodeState};

    use super::*;

    fn state(version: u64, first_shard_ends: u32, apps: &[&str]) -> Arc<MetaState> {
        let shard = |shard, first_slot, last_slot| MapShard {
            shard,
            first_slot,
            last_slot,
            epoch: version,
            ..MapShard::default()
        };
        let mut shards = vec![shard(1, 0, first_shard_ends)];
        if first_shard_ends < 99 {
            shards.push(shard(2, first_shard_ends + 1, 99));
        }
        let node = MapNode {
            node_id: 1,
            state: NodeState::Member.into(),
            ..MapNode::default()
        };
        let map = ClusterMap {
            cluster_id: "c".into(),
            version,
            feature_level: 1,
            nodes: vec![node],
            shards,
            ..ClusterMap::default()
        };
        let app = |id: &&str| {
            let app = stored::App {
                app_id: (*id).to_owned(),
                ..stored::App::default()
            };
            (app.app_id.clone(), app)
        };
        Arc::new(MetaState::new(Some(map), apps.iter().map(app).collect()))
    }

    #[tokio::test]
    async fn a_watcher_gets_everything_once_and_then_only_what_changed() {
        let meta = watch::Sender::new(state(1, 99, &["one", "two"]));
        let leaders = Leaders::default();
        let lead = |shard, term, node| {
            let node = Some(NodeId(node));
            leaders.learn(shard, Lead { term, node });
        };
        lead(ShardId(1), 3, 1);
        lead(ShardId::META, 3, 1);
        let updates = watch_cluster(meta.subscribe(), &leaders, true, CancellationToken::new());
        let mut updates = Box::pin(updates);
        let first = updates.next().await.unwrap();
        assert!(first.whole && first.cluster_id == "c" && first.feature_level == 1);
        assert_eq!((first.nodes.len(), first.apps.len()), (1, 2));
        assert_eq!((first.shards.len(), first.leaders.len()), (1, 1));

        lead(ShardId(1), 4, 2);
        let second = updates.next().await.unwrap();
        assert_eq!((second.leaders[0].term, second.leaders[0].node_id), (4, 2));
        assert!(!second.whole && second.nodes.is_empty() && second.apps.is_empty());
        assert!(second.shards.is_empty());

        meta.send_replace(state(2, 49, &["one", "two", "three"]));
        let third = updates.next().await.unwrap();
        assert_eq!(third.map_version, 2);
        assert_eq!(third.apps.len(), 1);
        assert!(third.nodes.is_empty() && third.leaders.is_empty());
        let ranges = third
            .shards
            .iter()
            .map(|r| (r.shard, r.first_slot, r.last_slot));
        assert_eq!(ranges.collect::<Vec<_>>(), [(1, 0, 49), (2, 50, 99)]);
    }

    #[tokio::test]
    async fn gateways_hear_of_kicks_and_of_those_that_are_forgotten() {
        let kicks = |users: &[&str]| {
            let kick = |user: &&str| {
                let kick = stored::Kick {
                    app_id: "one".into(),
                    user_id: (*user).to_owned(),
                    kicked_ms: 7,
                    ..stored::Kick::default()
                };
                (("one".to_owned(), kick.user_id.clone()), kick)
            };
            Arc::new(users.iter().map(kick).collect())
        };
        let with = |version, users: &[&str]| {
            let state = MetaState::clone(&state(version, 99, &["one"]));
            Arc::new(state.with_kicks(kicks(users)))
        };
        let meta = watch::Sender::new(with(1, &["ann", "bob"]));
        let (leaders, stop) = (Leaders::default(), CancellationToken::new());
        let updates = watch_cluster(meta.subscribe(), &leaders, true, stop.clone());
        let mut updates = Box::pin(updates);
        assert_eq!(updates.next().await.unwrap().kicks.len(), 2);
        meta.send_replace(with(2, &["bob", "carol"]));
        let changed = updates.next().await.unwrap().kicks;
        let changed = changed.iter().map(|k| (k.user_id.as_str(), k.kicked_ms));
        assert_eq!(changed.collect::<Vec<_>>(), [("carol", 7), ("ann", 0)]);
        let others = watch_cluster(meta.subscribe(), &leaders, false, stop);
        let first = Box::pin(others).next().await.unwrap();
        assert!(first.kicks.is_empty() && first.apps.is_empty());
    }

    #[tokio::test]
    async fn a_watch_ends_with_the_node() {
        let meta = watch::Sender::new(state(1, 99, &[]));
        let stop = CancellationToken::new();
        let updates = watch_cluster(meta.subscribe(), &Leaders::default(), false, stop.clone());
        let mut updates = Box::pin(updates);
        updates.next().await.unwrap();
        stop.cancel();
        assert!(updates.next().await.is_none());
    }
}
