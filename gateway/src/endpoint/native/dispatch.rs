//! From a client's frame to a call of the api, and from its answer to a frame. Ids are parsed here.

use std::sync::Arc;

use parlance_proto::client::v1::{
    ClientFrame, ConversationsRequest, ConversationsResponse, HistoryRequest, HistoryResponse,
    LoginRequest, MarkReadRequest, MarkReadResponse, PingResponse, RenewRequest, RenewResponse,
    SendRequest, SendResponse, ServerFrame, client_frame, history_request, mark_read_request,
    send_request, server_frame,
};
use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::ids::{ClientMessageId, ConversationId, DirectId, UserId};
use server_frame::Body;
use tokio::time::Instant;

use super::codec::{Format, encode_server_frame};
use super::login;
use crate::api::messages::{NewMessage, Range};
use crate::api::{Api, conversations, messages, now_ms, sessions};
use crate::bounds::Refusal;
use crate::metrics::{count_request, request_took};
use crate::session::{Caller, Item, Session, Unanswered};
use crate::token::Credentials;

/// One native client: its session, and how its frames are written.
#[derive(Clone)]
pub struct Client {
    /// What it can ask.
    pub api: Arc<Api>,
    /// Its session.
    pub session: Arc<Session>,
    /// How its frames are written.
    pub format: Format,
}

type Answer = Result<Body, Error>;

impl Client {
    /// Takes one frame of so many bytes. A login is answered when this returns; the answers to other requests come later.
    pub async fn take(&self, frame: ClientFrame, bytes: usize) {
        let id = frame.request_id;
        if let Err(error) = self.may_ask(&frame) {
            return self.finish(id, "unknown", Err(error));
        }
        if id == 0 {
            let error = Error::invalid("request_id", "a request id above 0 is needed");
            return self.finish(id, "unknown", Err(error));
        }
        match frame.body {
            None => {
                let error = "the frame has no request that is known here";
                self.refuse(id, ErrorCode::Unsupported, error);
            }
            Some(client_frame::Body::Login(request)) => {
                Box::pin(self.log_in(id, request)).await;
            }
            Some(client_frame::Body::Ping(_)) => {
                let pong = PingResponse {
                    server_time_ms: now_ms(),
                };
                self.finish(id, "ping", Ok(Body::Ping(pong)));
            }
            Some(body) => self.start(id, body, bytes),
        }
    }

    /// Queues a frame that answers `request_id`.
    pub fn answer(&self, request_id: u64, body: Body) {
        self.session.outbound.push(self.encode(request_id, body));
    }

    fn encode(&self, request_id: u64, body: Body) -> Item {
        let frame = ServerFrame {
            request_id,
            body: Some(body),
        };
        Item::Encoded(encode_server_frame(self.format, &frame))
    }

    fn refuse(&self, id: u64, code: ErrorCode, message: &str) {
        self.finish(id, "unknown", Err(Error::new(code, message)));
    }

    fn finish(&self, id: u64, kind: &'static str, answer: Answer) {
        self.count(kind, &answer);
        self.answer(id, answer.unwrap_or_else(Body::Error));
    }

    fn count(&self, kind: &'static str, answer: &Answer) {
        count_request(kind, answer.as_ref().err());
        if let (Err(_), Some(caller)) = (answer, self.session.caller()) {
            caller.rates.patience.tried();
        }
    }

    /// A ping or pong of WebSocket itself: a request like others, but that nothing says no to it.
    pub fn was_pinged(&self) {
        if let Some(caller) = self.session.caller()
            && let Err(refusal) = caller.rates.request()
        {
            refusal.count();
            caller.rates.patience.tried();
        }
    }

    async fn log_in(&self, id: u64, request: LoginRequest) {
        let began = Instant::now();
        let result = login::run(&self.api, &self.session, request).await;
        request_took("login", began.elapsed());
        count_request("login", result.as_ref().err());
        match result {
            // Before the pushes that the login has allowed.
            Ok(response) => {
                let answer = self.encode(id, Body::Login(response));
                self.session.outbound.push_first(answer);
            }
            Err(error) => {
                let (session, address) = (self.session.id, self.session.address);
                tracing::debug!(%session, %address, %error, "login refused");
                let close = login::close_reason(&error);
                self.answer(id, Body::Error(error));
                if let Some(close) = close {
                    self.session.outbound.close(close);
                }
            }
        }
    }

    /// Messages have limits of their own, if they may be messages at all.
    fn may_ask(&self, frame: &ClientFrame) -> Result<(), Error> {
        match (self.session.caller(), &frame.body) {
            (Some(_), Some(client_frame::Body::Send(_))) if frame.request_id > 0 => Ok(()),
            (None, _) => Ok(()),
            (Some(caller), _) => caller.rates.request().map_err(Refusal::count),
        }
    }

    /// Starts a request and answers it later. Sends have their order when this returns.
    fn start(&self, id: u64, body: client_frame::Body, bytes: usize) {
        let request = match self.api.begin(self.session.caller(), bytes) {
            Ok(request) => request,
            Err(error) => {
                if let (client_frame::Body::Send(asked), Some(caller)) =
                    (body, self.session.caller())
                {
                    refuse_behind(&self.api, caller, asked);
                }
                return self.finish(id, "unknown", Err(error));
            }
        };
        let (api, of) = (self.api.clone(), request.clone());
        match body {
            client_frame::Body::Send(asked) => {
                // At once, so that nothing more is read from whoever is refused again and again.
                match send(&api, &request, asked) {
                    Ok(answer) => self.answer_later(id, "send", request, answer),
                    Err(error) => self.finish(id, "send", Err(error)),
                }
            }
            client_frame::Body::History(asked) => {
                let answer = async move { history(&api, &of, asked).await };
                self.answer_in_turn(id, "history", request, answer);
            }
            client_frame::Body::Conversations(asked) => {
                let answer = async move { list(&api, &of, asked).await };
                self.answer_in_turn(id, "conversations", request, answer);
            }
            client_frame::Body::MarkRead(asked) => {
                let answer = async move { mark_read(&api, &of, asked).await };
                self.answer_later(id, "mark_read", request, answer);
            }
            client_frame::Body::Renew(asked) => {
                let session = self.session.clone();
                let answer = async move { renew(&api, &session, &of, asked).await };
                self.answer_later(id, "renew", request, answer);
            }
            // Answered before.
            client_frame::Body::Login(_) | client_frame::Body::Ping(_) => {}
        }
    }

    fn answer_later(
        &self,
        id: u64,
        kind: &'static str,
        request: Unanswered,
        answer: impl Future<Output = Answer> + Send + 'static,
    ) {
        let (client, began) = (self.clone(), Instant::now());
        tokio::spawn(async move {
            let answer = answer.await;
            client.finish(id, kind, answer);
            request_took(kind, began.elapsed());
            drop(request);
        });
    }

    /// As [`Client::answer_later`], for reads: a few of a session at a time, and each of them until the client has room for
    /// its answer. Whoever asks much and reads slowly waits for itself.
    fn answer_in_turn(
        &self,
        id: u64,
        kind: &'static str,
        request: Unanswered,
        answer: impl Future<Output = Answer> + Send + 'static,
    ) {
        let (client, began) = (self.clone(), Instant::now());
        tokio::spawn(async move {
            let _turn = request.reads.acquire().await;
            if client.session.outbound.closed().is_some() {
                return;
            }
            let answer = answer.await;
            client.count(kind, &answer);
            request_took(kind, began.elapsed());
            let answer = client.encode(id, answer.unwrap_or_else(Body::Error));
            client.session.outbound.push_when_room(answer).await;
        });
    }
}

/// The message has its place when this returns, or is refused; the future waits for the answer.
fn send(
    api: &Arc<Api>,
    caller: &Unanswered,
    request: SendRequest,
) -> Result<impl Future<Output = Answer> + Send + use<>, Error> {
    let message = new_message(caller, request).map_err(|e| messages::invalid(caller, e))?;
    let conversation_id = String::from(&message.conversation);
    let sending = messages::send(api, caller, message)?;
    Ok(async move {
        let sent = sending.await?;
        Ok(Body::Send(SendResponse {
            conversation_id,
            seq: sent.seq,
            time_ms: sent.time_ms,
            duplicate: sent.duplicate,
        }))
    })
}

fn new_message(caller: &Caller, request: SendRequest) -> Result<NewMessage, Error> {
    let target = request.target.map(|target| match target {
        send_request::Target::ToUser(user) => Target::User(user),
        send_request::Target::ConversationId(id) => Target::Conversation(id),
    });
    Ok(NewMessage {
        conversation: conversation(caller, "send", target)?,
        client_message_id: ClientMessageId::new(request.client_message_id)
            .map_err(|e| Error::invalid("send.client_message_id", e.to_string()))?,
        content: request.content.unwrap_or_default(),
        after: match request.after.as_str() {
            "" => None,
            after => Some(
                ClientMessageId::new(after)
                    .map_err(|e| Error::invalid("send.after", e.to_string()))?,
            ),
        },
    })
}

/// A send that did not even begin: what comes behind it must not begin either.
fn refuse_behind(api: &Api, caller: &Caller, request: SendRequest) {
    if let Ok(message) = new_message(caller, request) {
        messages::refused(api, caller, &message);
    }
}

async fn history(api: &Api, caller: &Caller, request: HistoryRequest) -> Answer {
    let direction = request.direction();
    let target = request.target.map(|target| match target {
        history_request::Target::WithUser(user) => Target::User(user),
        history_request::Target::ConversationId(id) => Target::Conversation(id),
    });
    let conversation = conversation(caller, "history", target)?;
    let conversation_id = String::from(&conversation);
    let range = Range {
        conversation,
        start_seq: request.start_seq,
        limit: request.limit,
        direction,
        max_bytes: request.max_bytes,
    };
    let found = messages::history(api, caller, range).await?;
    Ok(Body::History(HistoryResponse {
        conversation_id,
        events: found.events,
        head_seq: found.head_seq,
        more: found.more,
    }))
}

async fn list(api: &Api, caller: &Caller, request: ConversationsRequest) -> Answer {
    let page = if request.conversation_ids.is_empty() {
        let wanted = conversations::Wanted {
            after: request.after,
            limit: request.limit,
            max_bytes: request.max_bytes,
            since: request.since,
        };
        conversations::list(api, caller, wanted).await?
    } else {
        conversations::some(api, caller, request.conversation_ids, request.max_bytes).await?
    };
    Ok(Body::Conversations(ConversationsResponse {
        conversations: page.conversations,
        next_after: page.next_after,
        cursor: page.cursor,
        changes_only: page.changes_only,
    }))
}

async fn mark_read(api: &Api, caller: &Caller, request: MarkReadRequest) -> Answer {
    let target = request.target.map(|target| match target {
        mark_read_request::Target::WithUser(user) => Target::User(user),
        mark_read_request::Target::ConversationId(id) => Target::Conversation(id),
    });
    let conversation = conversation(caller, "mark_read", target)?;
    let read = conversations::mark_read(api, caller, &conversation, request.seq).await?;
    Ok(Body::MarkRead(MarkReadResponse {
        conversation_id: (&conversation).into(),
        read_seq: read.read_seq,
        unread_count: read.unread_count,
    }))
}

async fn renew(
    api: &Api,
    session: &Arc<Session>,
    caller: &Caller,
    request: RenewRequest,
) -> Answer {
    login::check_extra("renew.extra", &request.extra, 0)?;
    let credentials = Credentials {
        token: request.token,
        extra: request.extra,
        ..Credentials::default()
    };
    let token_expires_ms = sessions::renew(api, session, caller, credentials).await?;
    Ok(Body::Renew(RenewResponse { token_expires_ms }))
}

/// What a request points at.
enum Target {
    User(String),
    Conversation(String),
}

fn conversation(
    caller: &Caller,
    kind: &str,
    target: Option<Target>,
) -> Result<ConversationId, Error> {
    let invalid = |field: &str, why: String| Error::invalid(&format!("{kind}.{field}"), why);
    match target {
        None => {
            let rule = "a user or a conversation is needed".to_owned();
            Err(invalid("target", rule))
        }
        Some(Target::User(peer)) => UserId::new(peer)
            .and_then(|peer| DirectId::between(&caller.user.id, &peer))
            .map(ConversationId::Direct)
            .map_err(|e| invalid("target", e.to_string())),
        Some(Target::Conversation(id)) => {
            ConversationId::parse(&id).map_err(|e| invalid("conversation_id", e.to_string()))
        }
    }
}
