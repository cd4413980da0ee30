//! Fake nodes: the link service over real gRPC and TLS, the cluster behind it plain memory shared by all of them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use parlance_proto::client::v1::{Conversation, Event, HistoryResponse, Message, event};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::DirectConversation;
use parlance_proto::link::v1::link_server::{Link, LinkServer};
use parlance_proto::link::v1::{
    App, AppSecret, ClusterState, GatewayFrame, HeadsResult, ListConversationsResult,
    MarkReadResult, MessageResult, Node, NodeFrame, NotLeader, Publish, Request, Response, Send,
    SendResult, ShardLeader, SubscribeResult, Topic, UnsubscribeResult, WatchClusterRequest,
    Welcome, publish, request, response, topic,
};
use parlance_proto::tls::{Role, TlsIdentity};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Status, Streaming};

use super::certs::Authority;

pub const SECRET: &str = "a secret of sixteen bytes and more";
const SHARDS: u32 = 4;

/// The cluster behind all fake nodes.
pub struct World {
    state: watch::Sender<ClusterState>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    leader: u64,
    term: u64,
    logs: BTreeMap<String, Vec<Event>>,
    links: HashMap<(u64, String), LinkState>,
    /// Sends are swallowed without an answer, by node.
    deaf: HashSet<u64>,
    seamless: bool,
    completes: Vec<(u64, u32, usize)>,
    sends: usize,
    welcomes: Vec<bool>,
}

#[derive(Default)]
struct LinkState {
    number: u64,
    received: u64,
    stream: u64,
    unacked: VecDeque<NodeFrame>,
    outgoing: Option<mpsc::Sender<Result<NodeFrame, Status>>>,
    topics: HashSet<String>,
}

impl World {
    pub fn new() -> Arc<Self> {
        let inner = Inner {
            leader: 1,
            term: 1,
            seamless: true,
            ..Inner::default()
        };
        Arc::new(Self {
            state: watch::Sender::default(),
            inner: Mutex::new(inner),
        })
    }

    pub fn announce(&self, nodes: Vec<(u64, String)>) {
        let secret = AppSecret {
            secret_id: "1".into(),
            secret: SECRET.into(),
        };
        self.state.send_replace(ClusterState {
            cluster_id: "cluster".into(),
            map_version: 1,
            shard_count: SHARDS,
            nodes: nodes
                .into_iter()
                .map(|(node_id, link_address)| Node {
                    node_id,
                    link_address,
                })
                .collect(),
            leaders: leaders(1, 1),
            apps: vec![App {
                app_id: "demo".into(),
                secrets: vec![secret],
                disabled: false,
            }],
        });
    }

    /// Another node leads; gateways hear of it only if `told`.
    pub fn lead(&self, node_id: u64, told: bool) {
        let mut inner = self.inner.lock();
        inner.leader = node_id;
        inner.term += 1;
        let term = inner.term;
        drop(inner);
        if told {
            self.state
                .send_modify(|state| state.leaders = leaders(node_id, term));
        }
    }

    pub fn set_seamless(&self, seamless: bool) {
        self.inner.lock().seamless = seamless;
    }

    pub fn set_deaf(&self, node_id: u64, deaf: bool) {
        let mut inner = self.inner.lock();
        if deaf {
            inner.deaf.insert(node_id)
        } else {
            inner.deaf.remove(&node_id)
        };
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

    pub fn log(&self, conversation_id: &str) -> Vec<Event> {
        self.inner
            .lock()
            .logs
            .get(conversation_id)
            .cloned()
            .unwrap_or_default()
    }

    /// Frames that gateways have not acknowledged.
    pub fn unacked(&self) -> usize {
        self.inner
            .lock()
            .links
            .values()
            .map(|l| l.unacked.len())
            .sum()
    }

    /// Pushes an event to a user as the leader would.
    pub fn publish(&self, user: &str, event: Event, except: &str) {
        self.inner.lock().publish(user, &event, except);
    }

    /// Pushes bytes that are no push to every gateway with topics.
    pub fn publish_nonsense(&self) {
        self.inner.lock().publish_nonsense();
    }
}

fn leaders(node_id: u64, term: u64) -> Vec<ShardLeader> {
    (0..SHARDS)
        .map(|shard| ShardLeader {
            shard,
            node_id,
            term,
        })
        .collect()
}

impl LinkState {
    fn send(&mut self, mut frame: NodeFrame) {
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
    fn publish(&mut self, user: &str, event: &Event, except: &str) {
        let leader = self.leader;
        for ((node_id, _), link) in &mut self.links {
            if *node_id == leader && link.topics.contains(user) {
                let publish = Publish {
                    topic: Some(Topic {
                        app_id: "demo".into(),
                        name: Some(topic::Name::UserId(user.into())),
                    }),
                    except_session_id: except.into(),
                    body: Some(publish::Body::Event(event.encode_to_vec().into())),
                };
                link.send(NodeFrame {
                    publishes: vec![publish.encode_to_vec().into()],
                    ..NodeFrame::default()
                });
            }
        }
    }

    fn publish_nonsense(&mut self) {
        for link in self.links.values_mut() {
            if !link.topics.is_empty() {
                link.send(NodeFrame {
                    publishes: vec![vec![0xff].into()],
                    ..NodeFrame::default()
                });
            }
        }
    }

    fn answer(&mut self, key: &(u64, String), request: Request) -> Option<response::Body> {
        if key.0 != self.leader {
            return Some(response::Body::NotLeader(NotLeader {
                leader_node_id: self.leader,
            }));
        }
        Some(match request.body? {
            request::Body::Send(send) => {
                self.sends += 1;
                if self.deaf.contains(&key.0) {
                    return None;
                }
                response::Body::Send(self.store(send))
            }
            request::Body::MarkRead(r) => response::Body::MarkRead(MarkReadResult {
                read_seq: r.seq,
                unread_count: 0,
            }),
            request::Body::History(r) => {
                let events = self
                    .logs
                    .get(&r.conversation_id)
                    .cloned()
                    .unwrap_or_default();
                let head_seq = events.len() as u64;
                response::Body::History(HistoryResponse {
                    conversation_id: r.conversation_id,
                    events,
                    head_seq,
                    more: false,
                })
            }
            request::Body::Heads(r) => response::Body::Heads(HeadsResult {
                conversations: r
                    .conversation_ids
                    .into_iter()
                    .map(|id| Conversation {
                        head_seq: self.logs.get(&id).map_or(0, |l| l.len() as u64),
                        conversation_id: id,
                        ..Conversation::default()
                    })
                    .collect(),
            }),
            request::Body::ListConversations(r) => {
                let mine = |id: &&String| {
                    DirectConversation::parse(id).is_ok_and(|c| c.peer_of(&r.user_id).is_some())
                };
                let ids = self.logs.keys().filter(mine).cloned().collect();
                response::Body::ListConversations(ListConversationsResult {
                    conversation_ids: ids,
                    more: false,
                })
            }
            request::Body::Subscribe(r) => {
                let (term, seamless) = (self.term, self.seamless);
                if r.complete {
                    self.completes.push((key.0, request.shard, r.topics.len()));
                }
                let link = self.links.get_mut(key)?;
                link.topics.extend(
                    r.topics
                        .into_iter()
                        .filter_map(|t| t.name.map(|topic::Name::UserId(user)| user)),
                );
                response::Body::Subscribe(SubscribeResult { term, seamless })
            }
            request::Body::Unsubscribe(_) => response::Body::Unsubscribe(UnsubscribeResult {}),
        })
    }

    fn store(&mut self, send: Send) -> SendResult {
        let members = DirectConversation::parse(&send.conversation_id).unwrap();
        let mut results = Vec::new();
        for message in send.messages {
            let log = self.logs.entry(send.conversation_id.clone()).or_default();
            let stored = log.iter().find_map(|e| match &e.body {
                Some(event::Body::Message(m))
                    if m.client_message_id == message.client_message_id =>
                {
                    Some((e.seq, m.content == message.content))
                }
                _ => None,
            });
            if let Some((seq, same)) = stored {
                let error =
                    (!same).then(|| Error::new(ErrorCode::Conflict, "stored with another payload"));
                let seq = if same { seq } else { 0 };
                results.push(MessageResult {
                    seq,
                    duplicate: same,
                    error,
                    ..MessageResult::default()
                });
                continue;
            }
            let event = Event {
                conversation_id: send.conversation_id.clone(),
                seq: log.len() as u64 + 1,
                time_ms: 1,
                sender: send.sender.clone(),
                body: Some(event::Body::Message(Message {
                    client_message_id: message.client_message_id,
                    content: message.content,
                })),
            };
            log.push(event.clone());
            results.push(MessageResult {
                seq: event.seq,
                time_ms: 1,
                ..MessageResult::default()
            });
            for user in [members.first(), members.second()] {
                self.publish(user, &event, &send.session_id);
            }
        }
        SendResult { results }
    }
}

/// One fake node.
pub struct FakeNode {
    pub id: u64,
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl FakeNode {
    pub async fn start(id: u64, authority: &Authority, world: Arc<World>) -> Self {
        let identity = TlsIdentity::load(&authority.issue(Role::Node(id))).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&identity.cert_pem, &identity.key_pem))
            .client_ca_root(Certificate::from_pem(&identity.ca_pem));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = LinkServer::new(Service { id, world });
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(service);
        let task = tokio::spawn(async move {
            server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self { id, address, task }
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service {
    id: u64,
    world: Arc<World>,
}

#[tonic::async_trait]
impl Link for Service {
    type OpenStream = ReceiverStream<Result<NodeFrame, Status>>;
    type WatchClusterStream =
        Pin<Box<dyn Stream<Item = Result<ClusterState, Status>> + std::marker::Send>>;

    async fn open(
        &self,
        request: tonic::Request<Streaming<GatewayFrame>>,
    ) -> Result<tonic::Response<Self::OpenStream>, Status> {
        let mut incoming = request.into_inner();
        let hello = incoming
            .message()
            .await?
            .and_then(|f| f.hello)
            .expect("hello first");
        let (outgoing, frames) = mpsc::channel(4096);
        let key = (self.id, hello.link_id);
        let stream = {
            let mut inner = self.world.inner.lock();
            let resumed = inner.links.contains_key(&key);
            inner.welcomes.push(resumed);
            let link = inner.links.entry(key.clone()).or_default();
            link.unacked.retain(|f| f.number > hello.received);
            let welcome = Welcome {
                protocol_version: 1,
                node_id: self.id,
                cluster_id: "cluster".into(),
                resumed,
                received: link.received,
            };
            outgoing
                .try_send(Ok(NodeFrame {
                    welcome: Some(welcome),
                    ..NodeFrame::default()
                }))
                .unwrap();
            link.unacked
                .iter()
                .for_each(|f| outgoing.try_send(Ok(f.clone())).unwrap());
            link.outgoing = Some(outgoing);
            link.stream += 1;
            link.stream
        };
        let world = self.world.clone();
        tokio::spawn(async move {
            while let Ok(Some(frame)) = incoming.message().await {
                let mut inner = world.inner.lock();
                let same = |l: &&mut LinkState| l.stream == stream && l.outgoing.is_some();
                let Some(link) = inner.links.get_mut(&key).filter(same) else {
                    return;
                };
                link.unacked.retain(|f| f.number > frame.ack);
                if frame.number != 0 {
                    assert_eq!(
                        frame.number,
                        link.received + 1,
                        "frames come in order, each once"
                    );
                    link.received = frame.number;
                }
                for request in frame.requests {
                    let id = request.id;
                    if let Some(body) = inner.answer(&key, request)
                        && let Some(link) = inner.links.get_mut(&key)
                    {
                        let responses = vec![Response {
                            id,
                            body: Some(body),
                        }];
                        link.send(NodeFrame {
                            responses,
                            ..NodeFrame::default()
                        });
                    }
                }
            }
        });
        Ok(tonic::Response::new(ReceiverStream::new(frames)))
    }

    async fn watch_cluster(
        &self,
        _: tonic::Request<WatchClusterRequest>,
    ) -> Result<tonic::Response<Self::WatchClusterStream>, Status> {
        let states = WatchStream::new(self.world.state.subscribe()).map(Ok);
        Ok(tonic::Response::new(Box::pin(states)))
    }
}
