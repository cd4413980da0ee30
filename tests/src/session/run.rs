//! A session's life: connect, be online, lose the connection, connect elsewhere. What must outlive a connection is
//! kept here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};

use super::inbox::Inbox;
use super::lane::{Lane, Outgoing};
use super::online::{End, Online};
use super::{Command, Outcome, SessionSpec, Shared};
use crate::client::Connection;
use crate::history::{History, SeenEvent, Way, What};

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What a session keeps between connections.
pub(super) struct Keep {
    pub spec: SessionSpec,
    pub history: History,
    pub shared: Arc<Shared>,
    pub commands: Receiver<Command>,
    pub lanes: BTreeMap<String, Lane>,
    pub inboxes: BTreeMap<String, Inbox>,
    /// Where the next list begins.
    pub cursor: String,
    pub rng: StdRng,
    /// Connections so far.
    pub connection: u64,
}

impl Keep {
    /// Takes a command in; true if it ends the session.
    pub(super) fn accept(&mut self, command: Option<Command>) -> bool {
        match command {
            Some(Command::Send {
                message,
                to,
                text,
                done,
            }) => {
                let lane = self.lanes.entry(message.conversation.clone()).or_default();
                lane.push(Outgoing {
                    message,
                    to,
                    text,
                    done,
                    request_id: None,
                });
                false
            }
            Some(Command::MarkRead { .. } | Command::Reconnect) => false,
            Some(Command::Stop) | None => true,
        }
    }

    /// An event for the app, if it has not had it.
    pub(super) fn take_event(&mut self, conversation: &str, event: SeenEvent, way: Way) {
        let seq = event.seq;
        let inbox = self.inboxes.entry(conversation.to_owned()).or_default();
        let ready = inbox.take(event, way);
        if way == Way::Push {
            self.pushed(conversation, seq, &ready);
        }
        for (event, way) in ready {
            self.shared
                .last
                .lock()
                .insert(conversation.to_owned(), event.seq);
            if way == Way::Gap && event.sender != self.spec.user {
                let place = (conversation.to_owned(), event.seq);
                self.shared.unpushed.lock().insert(place);
            }
            self.history.record(What::Received {
                session: self.spec.name.clone(),
                user: self.spec.user.clone(),
                conversation: conversation.to_owned(),
                event,
                way,
            });
        }
    }

    /// A push came; `ready` is what the app gets now.
    fn pushed(&self, conversation: &str, seq: u64, ready: &[(SeenEvent, Way)]) {
        let place = (conversation.to_owned(), seq);
        self.shared.unpushed.lock().remove(&place);
        let now = |(event, way): &(SeenEvent, Way)| event.seq == seq && *way == Way::Push;
        if !ready.iter().any(now) {
            self.history.record(What::Pushed {
                session: self.spec.name.clone(),
                conversation: place.0,
                seq,
            });
        }
    }

    /// From here on it is pushed everything; tells so once a connection.
    pub(super) fn is_online(&self) {
        if !self.shared.online.swap(true, Ordering::SeqCst) {
            let (session, user) = (self.spec.name.clone(), self.spec.user.clone());
            self.history.record(What::Online { session, user });
        }
    }

    /// The end of a send.
    pub(super) fn finish(&self, outgoing: Outgoing, outcome: Outcome) {
        self.shared.open_sends.fetch_sub(1, Ordering::SeqCst);
        // The app may have lost interest.
        let _ = outgoing.done.send(outcome);
    }
}

/// Runs a session until it is stopped.
pub(super) async fn run(
    spec: SessionSpec,
    history: History,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
) {
    let rng = StdRng::seed_from_u64(spec.seed);
    let (lanes, inboxes) = (BTreeMap::new(), BTreeMap::new());
    let mut keep = Keep {
        spec,
        history,
        shared,
        commands,
        lanes,
        inboxes,
        cursor: String::new(),
        rng,
        connection: 0,
    };
    let mut gateway = 0;
    let mut failures = 0;
    loop {
        let address = keep
            .spec
            .gateways
            .get(gateway % keep.spec.gateways.len().max(1))
            .cloned()
            .unwrap_or_default();
        let end = match login(&keep, &address).await {
            Ok(connection) => {
                failures = 0;
                keep.connection += 1;
                // Now and then the whole list, as after a damage.
                if keep.rng.random_ratio(1, 4) {
                    keep.cursor.clear();
                }
                keep.shared.counters.logins.fetch_add(1, Ordering::Relaxed);
                let end = Online::new(&mut keep, connection).serve().await;
                disconnected(&mut keep, &end);
                end
            }
            Err(error) => End::Lost(format!("{error:#}")),
        };
        match end {
            End::Stopped => return,
            End::Lost(reason) => {
                let name = &keep.spec.name;
                keep.history.record(What::Note {
                    text: format!("{name} is offline ({address}): {reason}"),
                });
            }
        }
        gateway += 1;
        if rest(&mut keep, failures).await {
            return;
        }
        failures += 1;
    }
}

async fn login(keep: &Keep, gateway: &str) -> Result<Connection> {
    let mut connection = Connection::open(gateway).await?;
    connection
        .login(&keep.spec.signer.token(&keep.spec.user))
        .await
        .context("login")?;
    Ok(connection)
}

fn disconnected(keep: &mut Keep, end: &End) {
    let reason = match end {
        End::Stopped => "the session was stopped",
        End::Lost(reason) => reason,
    };
    let session = &keep.spec.name;
    if keep.shared.online.swap(false, Ordering::SeqCst) {
        let session = session.clone();
        keep.history.record(What::Offline { session });
    }
    keep.shared.unpushed.lock().clear();
    for lane in keep.lanes.values_mut() {
        for message in lane.disconnect() {
            let (session, reason) = (session.clone(), reason.to_owned());
            keep.history.record(What::Doubt {
                message,
                session,
                code: String::new(),
                reason,
            });
        }
    }
    for inbox in keep.inboxes.values_mut() {
        (inbox.fetching, inbox.resynced) = (false, false);
    }
}

/// Waits between two connections, longer after each failure and never all sessions at once; true if the session ends.
async fn rest(keep: &mut Keep, failures: u32) -> bool {
    let longest = BACKOFF_MAX.min(BACKOFF_FIRST * 2u32.saturating_pow(failures.min(10)));
    let until = Instant::now() + longest.mul_f64(keep.rng.random_range(0.5..1.0));
    loop {
        tokio::select! {
            () = sleep_until(until) => return false,
            command = keep.commands.recv() => {
                if keep.accept(command) {
                    return true;
                }
            }
        }
    }
}
