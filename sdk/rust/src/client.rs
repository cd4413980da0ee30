//! One connection: a task that reads and writes the socket, and the handles that requests and pushes go through.
//!
//! States: open → closing (all handles dropped) → closed. Every request that waits when the connection ends gets
//! [`ClientError::Closed`]. No queue is unbounded: callers wait for room, and a reader that does not take its pushes
//! stops the socket, never grows memory.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_proto::client::v1::{ClientFrame, LoginResponse, RenewRequest, server_frame};
use parlance_proto::version::CLIENT_PROTOCOLS;
use tokio::sync::{mpsc, oneshot, watch};

use crate::push::PushStream;
use crate::task::{self, Outgoing};
use crate::wire::{Closed, ConnectError, Endpoint, Reader, Writer};
use crate::{ClientError, LoginOptions, Options, Request};

/// A handle to a connection; clones share it. The connection closes when the last handle is dropped.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    outbox: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    next_id: AtomicU64,
    request_timeout: Duration,
}

/// What the connection's task and the handles both know.
pub(crate) struct Shared {
    waiting: Mutex<HashMap<u64, oneshot::Sender<server_frame::Body>>>,
    closed: watch::Sender<Option<Closed>>,
}

/// A request under way. Dropping it forgets the answer; the request itself is not undone.
pub struct Pending<R> {
    request_id: u64,
    timeout: Duration,
    body: oneshot::Receiver<server_frame::Body>,
    shared: Arc<Shared>,
    request: PhantomData<fn() -> R>,
}

/// Connects and upgrades; the session still has to log in.
///
/// Drop the [`PushStream`] to ignore pushes.
///
/// # Errors
/// [`ClientError::Connect`].
pub async fn connect(url: &str, options: Options) -> Result<(Client, PushStream), ClientError> {
    let opening = async {
        let endpoint = Endpoint::resolve(url, options.gateway_ca.as_deref()).await?;
        endpoint.open(options.format, None).await
    };
    let (reader, writer) = tokio::time::timeout(options.connect_timeout, opening)
        .await
        .map_err(|_| {
            let reason = format!("no answer within {:?}", options.connect_timeout);
            ConnectError::new(url, reason)
        })??;
    Ok(Client::over(reader, writer, &options))
}

impl Client {
    /// Runs an opened connection. Use it with one [`Endpoint`] for many connections to the same gateway.
    pub fn over(reader: Reader, writer: Writer, options: &Options) -> (Self, PushStream) {
        let (outbox, queued) = mpsc::channel(options.requests_max.max(1));
        let (push, pushes) = mpsc::channel(options.pushes_max.max(1));
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            closed: watch::channel(None).0,
        });
        let (keepalive, task_shared) = (options.keepalive, shared.clone());
        let queue = outbox.downgrade();
        tokio::spawn(async move {
            let closed = tokio::select! {
                closed = task::read(reader, &task_shared, push, queue, keepalive) => closed,
                closed = task::write(writer, queued, keepalive) => closed,
            };
            task_shared.end(closed);
        });
        let inner = Inner {
            outbox,
            shared,
            next_id: AtomicU64::new(1),
            request_timeout: options.request_timeout,
        };
        let client = Self {
            inner: Arc::new(inner),
        };
        (client, PushStream::new(pushes))
    }

    /// Logs the session in; before that only pings are answered.
    ///
    /// # Errors
    /// [`ClientError::Rejected`] if the token is refused, or no version of the protocol is spoken by both; the gateway
    /// then closes the connection. [`ClientError::Protocol`] if it speaks a version that it was not offered.
    pub async fn login(
        &self,
        token: &str,
        options: &LoginOptions,
    ) -> Result<LoginResponse, ClientError> {
        let answer = self.request(options.request(token)).await?;
        if CLIENT_PROTOCOLS.contains(&answer.protocol) {
            Ok(answer)
        } else {
            let told = answer.protocol;
            Err(ClientError::Protocol(format!(
                "version {told} of the protocol was not offered"
            )))
        }
    }

    /// Puts a new token of the same user in the place of the session's last one, with what else its format needs as at the login;
    /// answers when it ends, in ms since 1970 UTC.
    ///
    /// # Errors
    /// [`ClientError::Rejected`] if the token is refused; the session then goes on until its last token ends.
    pub async fn renew(
        &self,
        token: &str,
        extra: HashMap<String, String>,
    ) -> Result<i64, ClientError> {
        let token = token.to_owned();
        let request = RenewRequest { token, extra };
        Ok(self.request(request).await?.token_expires_ms)
    }

    /// Makes a request and waits for its answer.
    ///
    /// # Errors
    /// All kinds but [`ClientError::Connect`].
    pub async fn request<R: Request>(&self, request: R) -> Result<R::Answer, ClientError> {
        self.submit(request).await?.answer().await
    }

    /// Hands a request to the socket and returns what to wait on: many requests may be under way. Waits only for room
    /// in the queue. Requests leave in the order of these calls, and sends are stored in that order.
    ///
    /// # Errors
    /// [`ClientError::Closed`] if the connection has ended.
    pub async fn submit<R: Request>(&self, request: R) -> Result<Pending<R>, ClientError> {
        let request_id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.inner.shared.waiting.lock().insert(request_id, sender);
        let pending = Pending {
            request_id,
            timeout: self.inner.request_timeout,
            body: receiver,
            shared: self.inner.shared.clone(),
            request: PhantomData,
        };
        let frame = ClientFrame {
            request_id,
            body: Some(request.into_body()),
        };
        // On failure dropping `pending` removes it from the waiting ones.
        if self
            .inner
            .outbox
            .send(Outgoing::Frame(Box::new(frame)))
            .await
            .is_err()
        {
            return Err(self.inner.shared.closed_error());
        }
        Ok(pending)
    }

    /// How the connection ended, once it has. Cancel safe.
    pub async fn closed(&self) -> Closed {
        let mut closed = self.inner.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(value) => value.clone().unwrap_or_default(),
            Err(_) => Closed::default(),
        }
    }

    /// How the connection ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.inner.shared.closed.borrow().clone()
    }
}

impl<R: Request> Pending<R> {
    /// Waits for the answer, within [`Options::request_timeout`].
    ///
    /// # Errors
    /// All kinds but [`ClientError::Connect`].
    pub async fn answer(mut self) -> Result<R::Answer, ClientError> {
        match tokio::time::timeout(self.timeout, &mut self.body).await {
            Ok(Ok(server_frame::Body::Error(error))) => Err(ClientError::Rejected(error)),
            Ok(Ok(body)) => R::answer(body).ok_or_else(|| {
                ClientError::Protocol(format!("another kind of answer than that to {}", R::NAME))
            }),
            Ok(Err(_)) => Err(self.shared.closed_error()),
            Err(_) => Err(ClientError::Timeout {
                request: R::NAME,
                after: self.timeout,
            }),
        }
    }
}

impl<R> Drop for Pending<R> {
    fn drop(&mut self) {
        self.shared.waiting.lock().remove(&self.request_id);
    }
}

impl Shared {
    /// The first reason counts.
    pub(crate) fn end(&self, closed: Closed) {
        self.closed.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(closed);
            first
        });
        self.waiting.lock().clear();
    }

    fn closed_error(&self) -> ClientError {
        ClientError::Closed(self.closed.borrow().clone().unwrap_or_default())
    }

    pub(crate) fn answer(&self, request_id: u64, body: server_frame::Body) {
        let waiting = self.waiting.lock().remove(&request_id);
        if let Some(waiting) = waiting {
            // Nobody waits any more: the answer came too late.
            let _ = waiting.send(body);
        }
    }
}

#[cfg(test)]
#[path = "client_test.rs"]
mod tests;
