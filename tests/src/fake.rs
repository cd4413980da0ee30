//! Two gateways in this process over one in-memory log, with faults on the wire: sessions, load and checker are tried
//! on them, so that a finding on a real cluster is not one of the tests' own making.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use parlance_proto::client::v1 as proto;
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_testkit::peer::GatewayPeer;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::check::{self, Violation};
use crate::direct;
use crate::history::{Closing, History, OnlineSession, Run};
use crate::load::{Load, LoadSpec};
use crate::recovery;
use crate::session::{Session, SessionSpec};
use crate::token::Signer;
use crate::wait::until;

/// What goes wrong, and how often.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// The connection breaks before or after a send is stored.
    broken: f64,
    /// A retryable error, with or without storing.
    unknown: f64,
    /// A push is doubled.
    doubled: f64,
    /// A push is lost, and a resync told.
    resync: f64,
    /// A bug: a push is lost without a word.
    lost: f64,
    /// A bug: ids are forgotten.
    no_dedup: bool,
    /// A bug: what was acknowledged is dropped now and then.
    forgets: f64,
}

struct Fake {
    logs: Mutex<HashMap<String, Vec<proto::Event>>>,
    reads: Mutex<HashMap<(String, String), u64>>,
    pushes: broadcast::Sender<proto::Event>,
    faults: Mutex<Faults>,
    rng: Mutex<StdRng>,
}

impl Fake {
    fn chance(&self, rate: impl Fn(&Faults) -> f64) -> bool {
        let rate = rate(&self.faults.lock());
        self.rng.lock().random_bool(rate)
    }

    /// Stores a message; the answer.
    fn store(
        &self,
        sender: &str,
        conversation: &str,
        request: &proto::SendRequest,
    ) -> proto::SendResponse {
        let mut logs = self.logs.lock();
        let log = logs.entry(conversation.to_owned()).or_default();
        let id = &request.client_message_id;
        let is_it = |event: &&proto::Event| {
            event.sender == sender
                && matches!(&event.body, Some(proto::event::Body::Message(m)) if &m.client_message_id == id)
        };
        let known = log
            .iter()
            .find(is_it)
            .filter(|_| !self.faults.lock().no_dedup)
            .cloned();
        let duplicate = known.is_some();
        let event = known.unwrap_or_else(|| {
            let message = proto::Message {
                client_message_id: id.clone(),
                content: request.content.clone(),
            };
            let seq = log.len() as u64 + 1;
            proto::Event {
                conversation_id: conversation.to_owned(),
                seq,
                time_ms: 1000 + seq as i64,
                sender: sender.to_owned(),
                body: Some(proto::event::Body::Message(message)),
            }
        });
        if !duplicate && !self.chance(|faults| faults.forgets) {
            log.push(event.clone());
            // Nobody is connected: nobody to tell.
            let _ = self.pushes.send(event.clone());
        }
        let conversation_id = conversation.to_owned();
        proto::SendResponse {
            conversation_id,
            seq: event.seq,
            time_ms: event.time_ms,
            duplicate,
        }
    }

    fn history(&self, conversation: &str, start_seq: u64, limit: u32) -> proto::HistoryResponse {
        let logs = self.logs.lock();
        let log = logs
            .get(conversation)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let from = (start_seq.max(1) - 1).min(log.len() as u64) as usize;
        let to = (from + limit.min(20) as usize).min(log.len());
        let events = log[from..to].to_vec();
        proto::HistoryResponse {
            conversation_id: conversation.to_owned(),
            events,
            head_seq: log.len() as u64,
            more: to < log.len(),
        }
    }

    fn list(&self, user: &str) -> Vec<proto::Conversation> {
        let (logs, reads) = (self.logs.lock(), self.reads.lock());
        let mine = logs.iter().filter_map(|(id, log)| {
            let peer = direct::peer(id, user)?;
            let read_seq = reads
                .get(&(user.to_owned(), id.clone()))
                .copied()
                .unwrap_or_default();
            let unread_count = log
                .iter()
                .filter(|event| event.seq > read_seq && event.sender != user)
                .count() as u64;
            let (conversation_id, head_seq) = (id.clone(), log.len() as u64);
            Some(proto::Conversation {
                conversation_id,
                peer,
                head_seq,
                read_seq,
                unread_count,
                ..Default::default()
            })
        });
        mine.collect()
    }

    fn mark_read(&self, user: &str, conversation: &str, seq: u64) -> Answer {
        let mut reads = self.reads.lock();
        let read_seq = reads
            .entry((user.to_owned(), conversation.to_owned()))
            .or_default();
        *read_seq = (*read_seq).max(seq);
        let conversation_id = conversation.to_owned();
        Answer::MarkRead(proto::MarkReadResponse {
            conversation_id,
            read_seq: *read_seq,
            unread_count: 0,
        })
    }
}

async fn serve(fake: Arc<Fake>, stream: TcpStream) -> Option<()> {
    let mut client = GatewayPeer::accept(stream).await.ok()?;
    let mut user = String::new();
    let mut pushes = fake.pushes.subscribe();
    loop {
        tokio::select! {
            frame = client.asked() => {
                let frame = frame?;
                let body = answer(&fake, &mut user, frame.body?)?;
                client.say(frame.request_id, body).await.ok()?;
            }
            event = pushes.recv() => push(&fake, &mut client, &user, event.ok()?).await?,
        }
    }
}

/// None breaks the connection.
fn answer(fake: &Fake, user: &mut String, ask: Ask) -> Option<Answer> {
    Some(match ask {
        Ask::Login(login) => {
            let claims = URL_SAFE_NO_PAD
                .decode(login.token.split('.').nth(1)?)
                .ok()?;
            *user = serde_json::from_slice::<serde_json::Value>(&claims).ok()?["sub"]
                .as_str()?
                .to_owned();
            let user_id = user.clone();
            Answer::Login(proto::LoginResponse {
                user_id,
                protocol: 1,
                ..proto::LoginResponse::default()
            })
        }
        Ask::Ping(_) => Answer::Ping(proto::PingResponse::default()),
        Ask::Renew(_) => Answer::Renew(proto::RenewResponse::default()),
        Ask::Send(request) => {
            let Some(proto::send_request::Target::ToUser(to)) = &request.target else {
                return None;
            };
            let conversation = direct::between(user, to).ok()?;
            if fake.chance(|faults| faults.broken / 2.0) {
                return None;
            }
            // What fails may have been stored, or not; then later ones of this sender wait for the retry.
            if fake.chance(|faults| faults.unknown) {
                fake.store(user, &conversation, &request);
                return Some(Answer::Error(Error::new(
                    ErrorCode::OutcomeUnknown,
                    "who knows",
                )));
            }
            let stored = fake.store(user, &conversation, &request);
            if fake.chance(|faults| faults.broken / 2.0) {
                return None;
            }
            Answer::Send(stored)
        }
        Ask::History(request) => {
            let Some(proto::history_request::Target::ConversationId(id)) = &request.target else {
                return None;
            };
            Answer::History(fake.history(id, request.start_seq, request.limit))
        }
        Ask::Conversations(_) => {
            let conversations = fake.list(user);
            Answer::Conversations(proto::ConversationsResponse {
                conversations,
                ..proto::ConversationsResponse::default()
            })
        }
        Ask::MarkRead(request) => {
            let Some(proto::mark_read_request::Target::ConversationId(id)) = &request.target else {
                return None;
            };
            fake.mark_read(user, id, request.seq)
        }
    })
}

async fn push(
    fake: &Fake,
    client: &mut GatewayPeer,
    user: &str,
    event: proto::Event,
) -> Option<()> {
    let member = direct::peer(&event.conversation_id, user).is_some();
    if !member || fake.chance(|faults| faults.lost) {
        return Some(());
    }
    if fake.chance(|faults| faults.resync) {
        let resync = Answer::Resync(proto::ResyncNotice { within_ms: 100 });
        return client.say(0, resync).await.ok();
    }
    client.say(0, Answer::Event(event.clone())).await.ok()?;
    if fake.chance(|faults| faults.doubled) {
        client.say(0, Answer::Event(event)).await.ok()?;
    }
    Some(())
}

/// Two fake gateways, and their addresses.
async fn start(faults: Faults) -> (Arc<Fake>, Vec<String>) {
    let fake = Arc::new(Fake {
        logs: Mutex::default(),
        reads: Mutex::default(),
        pushes: broadcast::channel(10_000).0,
        faults: Mutex::new(faults),
        rng: Mutex::new(StdRng::seed_from_u64(7)),
    });
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gateways.push(listener.local_addr().unwrap().to_string());
        let fake = Arc::clone(&fake);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&fake), stream));
            }
        });
    }
    (fake, gateways)
}

/// Loads two fake gateways and checks what comes out.
async fn run(faults: Faults) -> Vec<Violation> {
    let (fake, gateways) = start(faults).await;
    let (signer, history) = (Signer::new("fake", "a secret"), History::default());
    let spec = LoadSpec {
        users: 5,
        conversations: 6,
        rate: 800,
        ..LoadSpec::default()
    };
    let mut load = Load::start(&spec, &gateways, &signer, &history)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let bugs = Faults {
        broken: 0.0,
        unknown: 0.0,
        doubled: 0.0,
        resync: 0.0,
        ..faults
    };
    *fake.faults.lock() = bugs;
    load.drain(Duration::from_secs(10)).await.unwrap();
    load.wait_online(Duration::from_secs(10)).await.unwrap();
    let logs = recovery::read_logs(&gateways, &signer, &history)
        .await
        .unwrap();
    recovery::wait_delivered(&load, &logs, &history, Duration::from_secs(3)).await;
    let rows = recovery::read_lists(&gateways, &signer, &logs)
        .await
        .unwrap();
    let online = load
        .sessions
        .iter()
        .map(|s| OnlineSession {
            session: s.name.clone(),
            user: s.user.clone(),
        })
        .collect();
    let closing = Closing {
        logs,
        rows,
        online,
        app_id: "fake".into(),
        ..Closing::default()
    };
    assert!(history.entries().len() > 2000, "hardly anything happened");
    check::all(&Run {
        entries: history.entries(),
        closing,
    })
}

fn promises(violations: &[Violation]) -> Vec<&str> {
    violations
        .iter()
        .map(|violation| violation.promise.as_str())
        .collect()
}

const ROUGH: Faults = Faults {
    broken: 0.02,
    unknown: 0.03,
    doubled: 0.1,
    resync: 0.02,
    lost: 0.0,
    no_dedup: false,
    forgets: 0.0,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rough_wire_breaks_no_promise() {
    assert_eq!(run(ROUGH).await, vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_forgets_ids_is_found_out() {
    let violations = run(Faults {
        no_dedup: true,
        ..ROUGH
    })
    .await;
    assert!(promises(&violations).contains(&"once"), "{violations:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_loses_what_it_acknowledged_is_found_out() {
    let violations = run(Faults {
        forgets: 0.01,
        ..Faults::default()
    })
    .await;
    assert!(
        promises(&violations).contains(&"durable"),
        "{violations:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_is_lost_for_good_is_found_out() {
    let violations = run(Faults {
        lost: 1.0,
        ..Faults::default()
    })
    .await;
    assert!(
        promises(&violations).contains(&"delivered"),
        "{violations:#?}"
    );
}

/// Else a load that was drained would still move cursors while they are read back.
#[tokio::test]
async fn a_read_cursor_has_moved_when_the_session_says_so() {
    let (fake, gateways) = start(Faults::default()).await;
    let spec = SessionSpec {
        name: "alice/1".into(),
        user: "alice".into(),
        signer: Signer::new("fake", "a secret"),
        gateways,
        seed: 1,
    };
    let session = Session::start(spec, History::default());
    let within = Duration::from_secs(10);
    let online = until("the session is online", within, async || {
        ensure!(session.is_online(), "offline");
        Ok(())
    });
    online.await.unwrap();
    session.mark_read("d:5:alice:bob", 1).await;
    let moved: Vec<u64> = fake.reads.lock().values().copied().collect();
    assert_eq!(moved, [1]);
    session.stop().await;
}
