//! The protocol's requests as functions, one for each.

use parlance_proto::client::v1::{
    Content, ConversationsRequest, ConversationsResponse, HistoryRequest, HistoryResponse,
    LoginRequest, LoginResponse, MarkReadRequest, MarkReadResponse, PingRequest, PingResponse,
    SendRequest, SendResponse, client_frame, content, send_request, server_frame,
};

use crate::client::{Answer, Client, ClientError};

/// Waits for an answer and takes it out of its kind.
macro_rules! expect_answer {
    ($answer:expr, $kind:ident) => {
        match $answer.wait().await? {
            server_frame::Body::$kind(response) => Ok(response),
            _ => Err(ClientError::Protocol(
                concat!("the answer is no ", stringify!($kind)).to_owned(),
            )),
        }
    };
}

impl Client {
    /// Logs the session in; before that only `ping` is answered.
    pub async fn login(&self, token: &str) -> Result<LoginResponse, ClientError> {
        let options = &self.inner.options;
        let request = LoginRequest {
            token: token.to_owned(),
            platform: options.platform.clone(),
            device_id: options.device_id.clone(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        expect_answer!(
            self.submit(client_frame::Body::Login(request)).await?,
            Login
        )
    }

    /// Asks for the gateway's time.
    pub async fn ping(&self) -> Result<PingResponse, ClientError> {
        expect_answer!(
            self.submit(client_frame::Body::Ping(PingRequest {}))
                .await?,
            Ping
        )
    }

    /// Sends one message and waits until it is stored.
    pub async fn send(&self, request: SendRequest) -> Result<SendResponse, ClientError> {
        self.submit_send(request).await?.response().await
    }

    /// Sends a text to a user.
    pub async fn send_text(
        &self,
        to_user: &str,
        client_message_id: &str,
        text: &str,
    ) -> Result<SendResponse, ClientError> {
        self.send(text_to(to_user, client_message_id, text)).await
    }

    /// Hands a message to the socket and returns with what to wait on. Sends of one client are stored in the order of
    /// these calls, whatever the order of the answers.
    pub async fn submit_send(&self, request: SendRequest) -> Result<PendingSend, ClientError> {
        Ok(PendingSend(
            self.submit(client_frame::Body::Send(request)).await?,
        ))
    }

    /// Reads a part of a conversation's log.
    pub async fn history(&self, request: HistoryRequest) -> Result<HistoryResponse, ClientError> {
        expect_answer!(
            self.submit(client_frame::Body::History(request)).await?,
            History
        )
    }

    /// One page of the user's conversations.
    pub async fn conversations(
        &self,
        request: ConversationsRequest,
    ) -> Result<ConversationsResponse, ClientError> {
        expect_answer!(
            self.submit(client_frame::Body::Conversations(request))
                .await?,
            Conversations
        )
    }

    /// Moves the user's read cursor.
    pub async fn mark_read(
        &self,
        request: MarkReadRequest,
    ) -> Result<MarkReadResponse, ClientError> {
        expect_answer!(
            self.submit(client_frame::Body::MarkRead(request)).await?,
            MarkRead
        )
    }
}

/// A send under way.
pub struct PendingSend(Answer);

impl PendingSend {
    /// Waits until the message is stored, or refused.
    pub async fn response(self) -> Result<SendResponse, ClientError> {
        expect_answer!(self.0, Send)
    }
}

/// The request that sends a text to a user.
pub fn text_to(to_user: &str, client_message_id: &str, text: &str) -> SendRequest {
    SendRequest {
        target: Some(send_request::Target::ToUser(to_user.to_owned())),
        client_message_id: client_message_id.to_owned(),
        content: Some(Content {
            kind: Some(content::Kind::Text(text.to_owned())),
        }),
    }
}
