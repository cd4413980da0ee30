//! One connection: a task that reads and writes the socket, and the handles that requests and pushes go through.
//!
//! States: open → closing (all handles dropped, or `close`) → closed. Every request that waits when the connection
//! ends gets [`ClientError::Closed`]. No queue is unbounded: callers wait for room, and a reader that does not take
//! its pushes stops the socket, never grows memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use parlance_proto::client::v1::{ClientFrame, client_frame, server_frame};
use tokio::sync::{mpsc, oneshot, watch};

use crate::client::push::PushStream;
use crate::client::socket::dial;
use crate::client::task::{read, write};
use crate::client::{ClientError, Closed, Options};

/// A handle to a connection; clones share it. The connection closes when the last handle is dropped.
#[derive(Clone)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    outbox: mpsc::Sender<ClientFrame>,
    shared: Arc<Shared>,
    next_id: AtomicU64,
    pub(super) options: Options,
}

/// What the connection's task and the handles both know.
pub(super) struct Shared {
    waiting: Mutex<HashMap<u64, oneshot::Sender<server_frame::Body>>>,
    closed: watch::Sender<Option<Closed>>,
}

/// A request under way. Dropping it forgets the answer; the request itself is not undone.
pub struct Answer {
    request_id: u64,
    request: &'static str,
    timeout: Duration,
    body: oneshot::Receiver<server_frame::Body>,
    shared: Arc<Shared>,
}

/// Connects and upgrades; the session still has to log in.
///
/// Drop the [`PushStream`] to ignore pushes.
pub async fn connect(url: &str, options: Options) -> Result<(Client, PushStream), ClientError> {
    let socket = dial(url, &options).await?;
    let (outbox, queued) = mpsc::channel(options.requests_max.max(1));
    let (push, pushes) = mpsc::channel(options.pushes_max.max(1));
    let shared = Arc::new(Shared {
        waiting: Mutex::default(),
        closed: watch::channel(None).0,
    });
    let (sink, stream) = socket.split();
    let (format, keepalive) = (options.format, options.keepalive);
    let task_shared = shared.clone();
    // Boxed: the state of the socket would otherwise be copied into the task.
    tokio::spawn(Box::pin(async move {
        let closed = tokio::select! {
            closed = read(stream, format, &task_shared, push) => closed,
            closed = write(sink, format, queued, keepalive) => closed,
        };
        task_shared.end(closed);
    }));
    let inner = Inner {
        outbox,
        shared,
        next_id: AtomicU64::new(1),
        options,
    };
    Ok((
        Client {
            inner: Arc::new(inner),
        },
        PushStream::new(pushes),
    ))
}

impl Client {
    /// Hands a request to the socket and returns at once with what to wait on: many requests may be under way.
    /// Waits only for room in the queue. Requests leave in the order of these calls.
    pub async fn submit(&self, body: client_frame::Body) -> Result<Answer, ClientError> {
        let request_id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let request = name_of(&body);
        let (sender, receiver) = oneshot::channel();
        self.inner.shared.waiting.lock().insert(request_id, sender);
        let answer = Answer {
            request_id,
            request,
            timeout: self.inner.options.request_timeout,
            body: receiver,
            shared: self.inner.shared.clone(),
        };
        let frame = ClientFrame {
            request_id,
            body: Some(body),
        };
        // On failure dropping `answer` removes it from the waiting ones.
        if self.inner.outbox.send(frame).await.is_err() {
            return Err(self.inner.shared.closed_error());
        }
        Ok(answer)
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

impl Answer {
    /// Waits for the answer, within the time that the options give a request.
    pub async fn wait(mut self) -> Result<server_frame::Body, ClientError> {
        match tokio::time::timeout(self.timeout, &mut self.body).await {
            Ok(Ok(server_frame::Body::Error(error))) => Err(ClientError::Rejected(error)),
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(self.shared.closed_error()),
            Err(_) => Err(ClientError::Timeout {
                request: self.request,
                after: self.timeout,
            }),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.shared.waiting.lock().remove(&self.request_id);
    }
}

impl Shared {
    fn end(&self, closed: Closed) {
        self.closed.send_replace(Some(closed));
        self.waiting.lock().clear();
    }

    fn closed_error(&self) -> ClientError {
        ClientError::Closed(self.closed.borrow().clone().unwrap_or_default())
    }

    pub(super) fn answer(&self, request_id: u64, body: server_frame::Body) {
        let waiting = self.waiting.lock().remove(&request_id);
        if let Some(waiting) = waiting {
            // Nobody waits any more: the answer came too late.
            let _ = waiting.send(body);
        }
    }
}

fn name_of(body: &client_frame::Body) -> &'static str {
    use client_frame::Body;
    match body {
        Body::Login(_) => "login",
        Body::Ping(_) => "ping",
        Body::Send(_) => "send",
        Body::History(_) => "history",
        Body::Conversations(_) => "conversations",
        Body::MarkRead(_) => "mark_read",
    }
}

#[cfg(test)]
#[path = "connection_test.rs"]
mod tests;
