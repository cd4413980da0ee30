//! The cluster behind all fake nodes: plain memory, one lock, and what a test wants to go wrong.

mod answers;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::client::v1::Event;
use parlance_proto::common::v1::{AppLimits, TokenFormat};
use parlance_proto::event::encode_event_frame;
use parlance_proto::ids::{AppId, ConversationId, UserId};
use parlance_proto::link::v1::{
    App, AppSecret, ClusterUpdate, Kick, Node, NodeFrame, Publish, Response, ShardLeader,
    ShardRoute, Topic, topic,
};
use parlance_proto::slot::{Slot, SlotRange};
use prost::Message as _;
use tokio::sync::{broadcast, mpsc};
use tonic::Status;

pub const SECRET: &str = "a secret of sixteen bytes and more";
const SHARDS: u16 = 4;

/// The cluster behind all fake nodes.
pub struct World {
    pub(super) inner: Mutex<Inner>,
}

/// A link session of a node: the node, and the link's id.
pub(super) type LinkKey = (u64, String);

pub(super) struct Inner {
    pub(super) whole: ClusterUpdate,
    pub(super) changes: broadcast::Sender<ClusterUpdate>,
    /// Who leads each shard, and its term.
    leaders: BTreeMap<u32, (u64, u64)>,
    routes: BTreeMap<u32, (SlotRange, u64)>,
    logs: BTreeMap<String, Vec<Event>>,
    pub(super) links: HashMap<LinkKey, LinkState>,
    /// Sends are swallowed without an answer, by node.
    deaf: HashSet<u64>,
    /// Nodes whose disks are full: they store nothing.
    full: HashSet<u64>,
    /// Shards that have no majority: nobody leads them.
    lost: HashSet<u32>,
    /// Nodes that no gateway can reach.
    pub(super) cut: HashSet<u64>,
    /// Answers to sends that are kept back, and for which node.
    held: Option<(u64, Vec<(LinkKey, Response)>)>,
    /// Answers to history requests that are kept back.
    held_reads: Option<Vec<(LinkKey, Response)>>,
    seamless: bool,
    /// Complete subscriptions that are answered with the term before, and forgotten.
    stale: usize,
    completes: Vec<(u64, u32, usize)>,
    sends: usize,
    /// Conversations whose heads were asked for.
    heads: usize,
    pub(super) welcomes: Vec<bool>,
}

#[derive(Default)]
pub(super) struct LinkState {
    number: u64,
    pub(super) received: u64,
    pub(super) stream: u64,
    pub(super) unacked: VecDeque<NodeFrame>,
    pub(super) outgoing: Option<mpsc::Sender<Result<NodeFrame, Status>>>,
    /// Users that are subscribed, by shard.
    topics: HashSet<(u32, String)>,
}

fn app() -> AppId {
    AppId::new("demo").unwrap()
}

fn home(user: &str) -> Slot {
    Slot::of_user(&app(), &UserId::new(user).unwrap())
}

fn place(conversation: &str) -> Slot {
    Slot::of_conversation(&app(), &ConversationId::parse(conversation).unwrap())
}

impl World {
    pub fn new() -> Arc<Self> {
        let ranges = (1u32..).zip(SlotRange::divide(SHARDS));
        let inner = Inner {
            whole: ClusterUpdate::default(),
            changes: broadcast::channel(1024).0,
            leaders: (1..=u32::from(SHARDS))
                .map(|shard| (shard, (1, 1)))
                .collect(),
            routes: ranges.map(|(shard, range)| (shard, (range, 1))).collect(),
            logs: BTreeMap::new(),
            links: HashMap::new(),
            deaf: HashSet::new(),
            full: HashSet::new(),
            lost: HashSet::new(),
            cut: HashSet::new(),
            held: None,
            held_reads: None,
            seamless: true,
            stale: 0,
            completes: Vec::new(),
            sends: 0,
            heads: 0,
            welcomes: Vec::new(),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
        })
    }

    pub fn announce(&self, nodes: Vec<(u64, String)>) {
        let secret = AppSecret {
            secret_id: "1".into(),
            secret: SECRET.into(),
            format: TokenFormat::Jwt.into(),
        };
        let mut inner = self.inner.lock();
        let others = std::mem::take(&mut inner.whole.apps);
        inner.whole = ClusterUpdate {
            cluster_id: "cluster".into(),
            map_version: 1,
            whole: true,
            nodes: nodes
                .into_iter()
                .map(|(node_id, link_address)| Node {
                    node_id,
                    link_address,
                })
                .collect(),
            shards: inner.all_routes(),
            leaders: inner.all_leaders(),
            apps: vec![App {
                app_id: "demo".into(),
                secrets: vec![secret],
                token_life_max_ms: 7_200_000,
                // Tests of the limits set their own.
                limits: Some(AppLimits {
                    session_messages_per_second: 10_000,
                    user_messages_per_second: 10_000,
                    app_messages_per_second: 10_000,
                }),
                ..App::default()
            }],
            feature_level: 1,
            kicks: Vec::new(),
            denied: None,
            more: false,
        };
        inner.whole.apps.extend(others);
    }

    /// There are so many other apps, `app0` first, all disabled: what a gateway is told is longer then.
    pub fn add_apps(&self, count: usize) {
        let secret = || AppSecret {
            secret_id: "1".into(),
            secret: SECRET.into(),
            format: TokenFormat::Jwt.into(),
        };
        let more = (0..count).map(|number| App {
            app_id: format!("app{number}"),
            secrets: vec![secret(), secret(), secret()],
            disabled: true,
            token_life_max_ms: 7_200_000,
            ..App::default()
        });
        self.inner.lock().whole.apps.extend(more);
    }

    /// The bytes of all that a gateway is told at once.
    pub fn told_bytes(&self) -> usize {
        self.inner.lock().whole.encoded_len()
    }

    /// Another node leads all shards; gateways hear of it only if `told`.
    pub fn lead(&self, node_id: u64, told: bool) {
        let mut inner = self.inner.lock();
        for (node, term) in inner.leaders.values_mut() {
            (*node, *term) = (node_id, *term + 1);
        }
        // What a leader knows of gateways is its term's.
        inner.links.values_mut().for_each(|l| l.topics.clear());
        if told {
            inner.tell_changes(false);
        }
    }

    /// The shard of `slot` is split: a child, led by a node, gets the half that `slot` is in. Gateways hear of it only
    /// if `told`.
    pub fn split(&self, slot: Slot, leader: u64, told: bool) {
        let mut inner = self.inner.lock();
        let parent = inner.owner(slot);
        let (range, epoch) = inner.routes[&parent];
        let (below, above) = range.split_at(range.middle().unwrap()).unwrap();
        let (child, rest) = if below.contains(slot) {
            (below, above)
        } else {
            (above, below)
        };
        let id = inner.routes.keys().max().unwrap() + 1;
        inner.routes.insert(parent, (rest, epoch + 1));
        inner.routes.insert(id, (child, epoch + 1));
        inner.leaders.insert(id, (leader, 1));
        // The parent's leader forgets what is not its own any more.
        for link in inner.links.values_mut() {
            let gone = |shard: u32, user: &str| shard == parent && child.contains(home(user));
            link.topics.retain(|(shard, user)| !gone(*shard, user));
        }
        if told {
            inner.tell_changes(true);
        }
    }

    /// An operator changes the app; every gateway hears of it.
    pub fn change_app(&self, change: impl FnOnce(&mut App)) {
        let mut inner = self.inner.lock();
        change(&mut inner.whole.apps[0]);
        let apps = inner.whole.apps.clone();
        inner.tell(|update| update.apps = apps);
    }

    /// An operator replaces a node; every gateway hears of it.
    pub fn replace(&self, node_id: u64) {
        let mut inner = self.inner.lock();
        inner.whole.nodes.retain(|node| node.node_id != node_id);
        let nodes = inner.whole.nodes.clone();
        inner.tell(|update| update.nodes = nodes);
    }

    /// An operator throws a user out; every gateway hears of it.
    pub fn kick(&self, kick: Kick) {
        let mut inner = self.inner.lock();
        inner.whole.kicks.push(kick.clone());
        inner.tell(|update| update.kicks.push(kick));
    }

    /// The shard of a slot loses its majority.
    pub fn lose(&self, slot: Slot) {
        let mut inner = self.inner.lock();
        let shard = inner.owner(slot);
        inner.lost.insert(shard);
    }

    /// The shard that owns a slot.
    pub fn shard_of(&self, slot: Slot) -> u32 {
        self.inner.lock().owner(slot)
    }

    pub fn slot_of_conversation(&self, conversation: &str) -> Slot {
        place(conversation)
    }

    pub fn slot_of_user(&self, user: &str) -> Slot {
        home(user)
    }

    pub fn set_seamless(&self, seamless: bool) {
        self.inner.lock().seamless = seamless;
    }

    /// The next complete subscriptions are answered by a leader that is about to lose its term.
    pub fn set_stale(&self, subscriptions: usize) {
        self.inner.lock().stale = subscriptions;
    }

    pub fn set_deaf(&self, node_id: u64, deaf: bool) {
        let mut inner = self.inner.lock();
        if deaf {
            inner.deaf.insert(node_id)
        } else {
            inner.deaf.remove(&node_id)
        };
    }

    /// Sends are refused with the time at which to come again.
    pub fn set_full(&self, node_id: u64) {
        self.inner.lock().full.insert(node_id);
    }

    /// Sends are stored, but a node's answers to them wait until [`World::release`].
    pub fn hold(&self, node_id: u64) {
        self.inner.lock().held = Some((node_id, Vec::new()));
    }

    pub fn release(&self) {
        let mut inner = self.inner.lock();
        let held = inner.held.take();
        for (key, response) in held.into_iter().flat_map(|(_, held)| held) {
            inner.respond(&key, response);
        }
    }

    /// History requests are answered, but the answers wait until [`World::release_reads`].
    pub fn hold_reads(&self) {
        self.inner.lock().held_reads = Some(Vec::new());
    }

    /// How many answers to reads wait.
    pub fn held_reads(&self) -> usize {
        self.inner.lock().held_reads.as_ref().map_or(0, Vec::len)
    }

    /// Sends those that wait; later ones wait again.
    pub fn release_reads(&self) {
        let mut inner = self.inner.lock();
        let held = inner.held_reads.replace(Vec::new());
        for (key, response) in held.into_iter().flatten() {
            inner.respond(&key, response);
        }
    }

    /// What the app's users may do at most, told to every gateway.
    pub fn set_limits(&self, limits: AppLimits) {
        let mut inner = self.inner.lock();
        inner.whole.map_version += 1;
        inner.whole.apps[0].limits = Some(limits);
        let change = ClusterUpdate {
            cluster_id: inner.whole.cluster_id.clone(),
            map_version: inner.whole.map_version,
            apps: inner.whole.apps.clone(),
            ..ClusterUpdate::default()
        };
        let _ = inner.changes.send(change);
    }

    pub fn held(&self) -> usize {
        self.inner.lock().held.as_ref().map_or(0, |(_, h)| h.len())
    }

    /// Breaks the links to a node; the node forgets them, or knows them when they come again.
    pub fn break_links(&self, node_id: u64, forget: bool) {
        let mut inner = self.inner.lock();
        for ((id, _), link) in &mut inner.links {
            if *id == node_id {
                link.outgoing = None;
            }
        }
        if forget {
            inner.links.retain(|(id, _), _| *id != node_id);
        }
    }

    /// No gateway reaches the node any more.
    pub fn cut(&self, node_id: u64) {
        self.inner.lock().cut.insert(node_id);
        self.break_links(node_id, true);
    }

    /// Conversations whose heads were asked for.
    pub fn heads(&self) -> usize {
        self.inner.lock().heads
    }

    pub fn sends(&self) -> usize {
        self.inner.lock().sends
    }

    pub fn welcomes(&self) -> Vec<bool> {
        self.inner.lock().welcomes.clone()
    }

    /// Complete subscriptions that a node got: how many, and the topics in them.
    pub fn completes(&self, node_id: u64) -> (usize, usize) {
        let inner = self.inner.lock();
        let of_node: Vec<_> = inner
            .completes
            .iter()
            .filter(|(id, ..)| *id == node_id)
            .collect();
        (
            of_node.len(),
            of_node.iter().map(|(_, _, topics)| topics).sum(),
        )
    }

    /// Whether a gateway has a user's topic at the leader of the user's home.
    pub fn is_subscribed(&self, user: &str) -> bool {
        let inner = self.inner.lock();
        let shard = inner.owner(home(user));
        let leader = inner.leaders[&shard].0;
        let topic = (shard, user.to_owned());
        let mut links = inner.links.iter().filter(|((node, _), _)| *node == leader);
        links.any(|(_, link)| link.topics.contains(&topic))
    }

    pub fn log(&self, conversation_id: &str) -> Vec<Event> {
        let inner = self.inner.lock();
        inner.logs.get(conversation_id).cloned().unwrap_or_default()
    }

    /// Frames that gateways have not acknowledged.
    pub fn unacked(&self) -> usize {
        let inner = self.inner.lock();
        inner.links.values().map(|l| l.unacked.len()).sum()
    }

    /// Pushes an event to a user as the leader would.
    pub fn publish(&self, user: &str, event: Event, except: &str) {
        self.inner.lock().publish(user, &event, except);
    }

    /// Pushes bytes that are not a push to every gateway with topics.
    pub fn publish_nonsense(&self) {
        for link in self.inner.lock().links.values_mut() {
            if !link.topics.is_empty() {
                link.send(NodeFrame {
                    publishes: vec![vec![0xff].into()],
                    ..NodeFrame::default()
                });
            }
        }
    }
}

impl LinkState {
    pub(super) fn send(&mut self, mut frame: NodeFrame) {
        self.number += 1;
        frame.number = self.number;
        frame.ack = self.received;
        self.unacked.push_back(frame.clone());
        if let Some(outgoing) = &self.outgoing {
            let _ = outgoing.try_send(Ok(frame));
        }
    }
}

impl Inner {
    fn all_routes(&self) -> Vec<ShardRoute> {
        let routes = self.routes.iter();
        let route = |(shard, (range, epoch)): (&u32, &(SlotRange, u64))| ShardRoute {
            shard: *shard,
            first_slot: range.first().number().into(),
            last_slot: range.last().number().into(),
            epoch: *epoch,
        };
        routes.map(route).collect()
    }

    fn all_leaders(&self) -> Vec<ShardLeader> {
        let leaders = self.leaders.iter();
        let leader = |(shard, (node_id, term)): (&u32, &(u64, u64))| ShardLeader {
            shard: *shard,
            node_id: *node_id,
            term: *term,
        };
        leaders.map(leader).collect()
    }

    /// Streams that are open get what has changed, later ones the whole.
    fn tell_changes(&mut self, map: bool) {
        self.whole.leaders = self.all_leaders();
        if map {
            self.whole.map_version += 1;
            self.whole.shards = self.all_routes();
        }
        let change = ClusterUpdate {
            cluster_id: self.whole.cluster_id.clone(),
            map_version: self.whole.map_version,
            shards: if map { self.all_routes() } else { Vec::new() },
            leaders: self.all_leaders(),
            ..ClusterUpdate::default()
        };
        let _ = self.changes.send(change);
    }

    /// A change of the map beside shards and leaders, for the streams that are open.
    fn tell(&mut self, change: impl FnOnce(&mut ClusterUpdate)) {
        self.whole.map_version += 1;
        let mut update = ClusterUpdate {
            cluster_id: self.whole.cluster_id.clone(),
            map_version: self.whole.map_version,
            ..ClusterUpdate::default()
        };
        change(&mut update);
        let _ = self.changes.send(update);
    }

    fn owner(&self, slot: Slot) -> u32 {
        let mut routes = self.routes.iter();
        let owner = routes.find(|(_, (range, _))| range.contains(slot));
        *owner.unwrap().0
    }

    fn publish(&mut self, user: &str, event: &Event, except: &str) {
        let shard = self.owner(home(user));
        let leader = self.leaders[&shard].0;
        let mut header = event.clone();
        let body = Event {
            body: header.body.take(),
            ..Event::default()
        };
        let publish = Publish {
            topic: Some(Topic {
                app_id: "demo".into(),
                name: Some(topic::Name::UserId(user.into())),
            }),
            except_session_id: except.into(),
            frame: encode_event_frame(&header, &body.encode_to_vec()),
        };
        for ((node_id, _), link) in &mut self.links {
            if *node_id == leader && link.topics.contains(&(shard, user.to_owned())) {
                link.send(NodeFrame {
                    publishes: vec![publish.encode_to_vec().into()],
                    ..NodeFrame::default()
                });
            }
        }
    }
}
