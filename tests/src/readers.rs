//! Who reads along while others write: through the gateways as clients, and from the nodes themselves as gateways, leaders or
//! not. Never may anybody be told less than somebody was told before.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use parlance_proto::client::v1::{Direction, Event};
use parlance_proto::link::v1 as link;
use parlance_proto::slot::Slot;
use parlance_proto::tls::{Role, TlsFiles};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::client::{Connection, history_forward};
use crate::cluster::shards::slot_of;
use crate::cluster::{APP, Cluster};
use crate::history::{History, What};
use crate::node_link::{LinkAddress, NodeLink};
use crate::session::event_as_seen;
use crate::token::Signer;

/// A member and the conversation.
pub type Conversations = Arc<[(String, String)]>;

const READ_EVERY: Duration = Duration::from_millis(40);
/// Events of one page.
const PAGE: u32 = 5;
/// Questions to one node without an answer; a node that stands still gets so many, and answers them when it goes on.
const OPEN_MAX: usize = 64;
/// Nodes that may come in place of others during a run.
const NODES_TO_COME: u64 = 4;
const OPEN_WITHIN: Duration = Duration::from_secs(3);
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Where a reader goes on: near the end that it knows.
#[derive(Default)]
struct Heads(HashMap<String, u64>);

impl Heads {
    fn start(&self, conversation: &str, rng: &mut StdRng) -> u64 {
        let head = self.0.get(conversation).copied().unwrap_or_default();
        head.saturating_sub(rng.random_range(0..u64::from(PAGE)))
            .max(1)
    }

    fn note(&mut self, conversation: &str, head_seq: u64) {
        self.0.insert(conversation.to_owned(), head_seq);
    }
}

/// Asks through one gateway, all the time.
pub struct GatewayReader {
    gateway: String,
    conversations: Conversations,
    signer: Signer,
    history: History,
    rng: StdRng,
    heads: Heads,
}

impl GatewayReader {
    pub fn new(
        gateway: String,
        conversations: Conversations,
        signer: Signer,
        history: History,
        rng: StdRng,
    ) -> Self {
        Self {
            gateway,
            conversations,
            signer,
            history,
            rng,
            heads: Heads::default(),
        }
    }

    pub async fn run(mut self, stop: Arc<AtomicBool>) {
        let conversations = self.conversations.clone();
        while !stop.load(Ordering::SeqCst) {
            let Some((user, conversation)) = conversations.choose(&mut self.rng) else {
                return;
            };
            // Broken connections are what faults make: the next round opens another.
            if let Ok(mut connection) =
                Connection::logged_in(&self.gateway, &self.signer.token(user)).await
            {
                for _ in 0..20 {
                    if stop.load(Ordering::SeqCst)
                        || self.read(&mut connection, conversation).await.is_err()
                    {
                        break;
                    }
                    sleep(READ_EVERY).await;
                }
            }
            sleep(READ_EVERY).await;
        }
    }

    async fn read(&mut self, connection: &mut Connection, conversation: &str) -> Result<()> {
        let invoked_us = self.history.now_us();
        let start_seq = self.heads.start(conversation, &mut self.rng);
        let mut request = history_forward(conversation, start_seq);
        request.limit = PAGE;
        let page = connection.history(request).await?;
        self.heads.note(conversation, page.head_seq);
        self.history.record(What::Page {
            reader: format!("reader at {}", self.gateway),
            conversation: conversation.to_owned(),
            invoked_us,
            head_seq: page.head_seq,
            start_seq,
            events: page.events.into_iter().map(event_as_seen).collect(),
            more: page.more,
        });
        Ok(())
    }
}

/// What the readers of nodes were answered.
#[derive(Debug, Default)]
pub struct Answers {
    pub pages: AtomicU64,
    /// "Not the leader", "moved", and errors.
    pub sent_away: AtomicU64,
}

/// A reader linked to each node.
pub struct NodeReaders {
    pub answers: Arc<Answers>,
    tasks: Vec<JoinHandle<()>>,
}

impl NodeReaders {
    /// Links to the cluster's nodes, and to those that may come in their place.
    pub async fn start(
        cluster: &Cluster,
        conversations: &Conversations,
        history: &History,
        seed: u64,
    ) -> Result<Self> {
        let routes = Routes::of(cluster).await?;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut readers = Self {
            answers: Arc::default(),
            tasks: Vec::new(),
        };
        for node_id in 1..=cluster.spec.nodes + NODES_TO_COME {
            let name = format!("reader-{node_id}");
            let identity: TlsFiles = cluster
                .authority
                .issue(&name, Role::Gateway(name.clone()))?;
            let reader = NodeReader {
                address: LinkAddress {
                    node: cluster.address.link(node_id).to_string(),
                    gateway_id: name,
                    identity,
                },
                name: format!("reader at node {node_id}"),
                conversations: conversations.clone(),
                history: history.clone(),
                routes: routes.clone(),
                rng: StdRng::seed_from_u64(rng.random()),
                heads: Heads::default(),
                answers: readers.answers.clone(),
            };
            readers.tasks.push(tokio::spawn(reader.run()));
        }
        Ok(readers)
    }
}

impl Drop for NodeReaders {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Which shard has which slots, as far as a reader knows.
#[derive(Clone)]
struct Routes(Vec<link::ShardRoute>);

impl Routes {
    async fn of(cluster: &Cluster) -> Result<Self> {
        let status = cluster.any_admin().await?.status().await?;
        let routes = status.shards.iter().map(|shard| link::ShardRoute {
            shard: shard.shard,
            first_slot: shard.first_slot,
            last_slot: shard.last_slot,
            epoch: shard.epoch,
        });
        Ok(Self(routes.collect()))
    }

    fn owner(&self, slot: Slot) -> Option<u32> {
        let slot = u32::from(slot.number());
        let has = |route: &&link::ShardRoute| (route.first_slot..=route.last_slot).contains(&slot);
        let owners = self.0.iter().filter(has);
        Some(owners.max_by_key(|route| route.epoch)?.shard)
    }

    fn learn(&mut self, moved: link::Moved) {
        for route in moved.routes {
            if !self.0.contains(&route) {
                self.0.push(route);
            }
        }
    }
}

/// A question on its way.
struct Asked {
    conversation: String,
    invoked_us: u64,
    start_seq: u64,
}

struct NodeReader {
    address: LinkAddress,
    name: String,
    conversations: Conversations,
    history: History,
    routes: Routes,
    rng: StdRng,
    heads: Heads,
    answers: Arc<Answers>,
}

impl NodeReader {
    async fn run(mut self) {
        loop {
            // A node that is dead, or not there yet, is tried again.
            if let Ok(Ok(link)) = timeout(OPEN_WITHIN, NodeLink::open(&self.address)).await {
                let _ended = self.read(link).await;
            }
            sleep(OPEN_AGAIN_AFTER).await;
        }
    }

    async fn read(&mut self, mut link: NodeLink) -> Result<()> {
        let mut asked = HashMap::<u64, Asked>::new();
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => if asked.len() < OPEN_MAX {
                    self.ask(&mut link, &mut asked)?;
                },
                answer = link.answer() => {
                    let answer = answer?;
                    if let Some(asked) = asked.remove(&answer.id) {
                        self.answered(asked, answer.body.context("an empty answer")?)?;
                    }
                }
            }
        }
    }

    /// Asks for a page, and says to all shards that this gateway wants no topic: a new leader waits for that.
    fn ask(&mut self, link: &mut NodeLink, asked: &mut HashMap<u64, Asked>) -> Result<()> {
        let (user, conversation) = self.conversations.choose(&mut self.rng).context("none")?;
        let shard = self
            .routes
            .owner(slot_of(conversation)?)
            .context("no shard")?;
        let start_seq = self.heads.start(conversation, &mut self.rng);
        let page = link::request::Body::History(link::History {
            app_id: APP.to_owned(),
            conversation_id: conversation.clone(),
            user_id: user.clone(),
            start_seq,
            limit: PAGE,
            direction: Direction::Forward.into(),
            max_bytes: 0,
        });
        let shards = self.routes.0.iter().map(|route| route.shard);
        let nothing = shards.map(|shard| (shard, nothing_more()));
        let questions: Vec<_> = std::iter::once((shard, page)).chain(nothing).collect();
        let invoked_us = self.history.now_us();
        // A node that takes no more for now is asked again at the next tick.
        if let Some(first) = link.ask(questions) {
            let conversation = conversation.clone();
            asked.insert(
                first,
                Asked {
                    conversation,
                    invoked_us,
                    start_seq,
                },
            );
        }
        Ok(())
    }

    fn answered(&mut self, asked: Asked, answer: link::response::Body) -> Result<()> {
        let page = match answer {
            link::response::Body::History(page) => page,
            other => {
                if let link::response::Body::Moved(moved) = other {
                    self.routes.learn(moved);
                }
                self.answers.sent_away.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        };
        self.answers.pages.fetch_add(1, Ordering::Relaxed);
        self.heads.note(&asked.conversation, page.head_seq);
        let events = page.events.iter().map(|event| Event::decode(&event[..]));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        self.history.record(What::Page {
            reader: self.name.clone(),
            conversation: asked.conversation,
            invoked_us: asked.invoked_us,
            head_seq: page.head_seq,
            start_seq: asked.start_seq,
            events: events.into_iter().map(event_as_seen).collect(),
            more: page.more,
        });
        Ok(())
    }
}

fn nothing_more() -> link::request::Body {
    link::request::Body::Subscribe(link::Subscribe {
        topics: Vec::new(),
        complete: true,
    })
}
