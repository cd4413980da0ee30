//! The protocol's requests, each tied to its answer.

use parlance_proto::client::v1::{
    Content, ConversationsRequest, ConversationsResponse, HistoryRequest, HistoryResponse,
    LoginRequest, LoginResponse, MarkReadRequest, MarkReadResponse, PingRequest, PingResponse,
    RenewRequest, RenewResponse, SendRequest, SendResponse, client_frame, content, send_request,
    server_frame,
};

/// A request of the protocol and the one kind of answer that belongs to it.
pub trait Request: Send + 'static {
    /// What the gateway answers, unless it answers with an error.
    type Answer: Send + 'static;
    /// As in errors and logs: `send`, `mark_read`.
    const NAME: &'static str;

    /// The request as a frame carries it.
    fn into_body(self) -> client_frame::Body;

    /// The answer out of a frame; none if it is of another kind.
    fn answer(body: server_frame::Body) -> Option<Self::Answer>;
}

/// One line a request; the names are those of the frames' fields.
macro_rules! requests {
    ($($request:ident => $answer:ident, $variant:ident, $name:literal;)*) => {$(
        impl Request for $request {
            type Answer = $answer;
            const NAME: &'static str = $name;

            fn into_body(self) -> client_frame::Body {
                client_frame::Body::$variant(self)
            }

            fn answer(body: server_frame::Body) -> Option<$answer> {
                match body {
                    server_frame::Body::$variant(answer) => Some(answer),
                    _ => None,
                }
            }
        }
    )*};
}

requests! {
    LoginRequest => LoginResponse, Login, "login";
    PingRequest => PingResponse, Ping, "ping";
    SendRequest => SendResponse, Send, "send";
    HistoryRequest => HistoryResponse, History, "history";
    ConversationsRequest => ConversationsResponse, Conversations, "conversations";
    MarkReadRequest => MarkReadResponse, MarkRead, "mark_read";
    RenewRequest => RenewResponse, Renew, "renew";
}

/// The request that sends a text to a user. Ids are typed ones or texts, which the gateway checks.
pub fn text_to(
    to_user: impl AsRef<str>,
    client_message_id: impl AsRef<str>,
    text: impl Into<String>,
) -> SendRequest {
    SendRequest {
        target: Some(send_request::Target::ToUser(to_user.as_ref().to_owned())),
        client_message_id: client_message_id.as_ref().to_owned(),
        content: Some(Content {
            kind: Some(content::Kind::Text(text.into())),
        }),
        ..SendRequest::default()
    }
}
