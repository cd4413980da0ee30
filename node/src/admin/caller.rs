//! Who calls the admin API: operators only, by the certificate.

use std::future::Future;

use parlance_proto::common::v1::{Error, ErrorCode};
use parlance_proto::tls::Role;
use tokio::task::JoinError;
use tonic::{Request, Response, Status};

use crate::audit::Who;
use crate::link::role_of_peer;

/// An operator, and what is asked.
pub(super) struct Caller {
    who: Who,
    action: &'static str,
}

/// The request of an operator and who it is; anybody else's is refused.
pub(super) fn of_admin<T>(
    request: Request<T>,
    action: &'static str,
) -> Result<(Caller, T), Status> {
    let role = role_of_peer(&request)?;
    let who = Who::of(&request);
    if role == Role::Admin {
        return Ok((Caller { who, action }, request.into_inner()));
    }
    let message = "the admin API needs a certificate with the role admin: parlance ca issue admin";
    let refused = Err::<(), _>(Error::new(ErrorCode::PermissionDenied, message));
    who.did(action, "", &refused);
    Err(Error::new(ErrorCode::PermissionDenied, message).into())
}

impl Caller {
    /// Makes a change and notes what came of it before the answer goes out. Both are in a task of their own: a caller who
    /// hangs up neither stops the change half-way nor keeps it out of the log.
    pub(super) async fn changes<T: Send + 'static>(
        self,
        subject: String,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let made = tokio::spawn(async move {
            // One more task, so that a change that panics is noted as well.
            let made = tokio::spawn(change).await;
            let failed = |e: JoinError| Err(Error::new(ErrorCode::Internal, e.to_string()));
            self.noted(&subject, made.unwrap_or_else(failed))
        });
        let made = made.await;
        made.map_err(|e| Status::internal(e.to_string()))?
    }

    /// The answer to what gives secrets away: noted before it goes out.
    pub(super) fn noted<T>(
        &self,
        subject: &str,
        result: Result<T, Error>,
    ) -> Result<Response<T>, Status> {
        self.who.did(self.action, subject, &result);
        Ok(Response::new(result?))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};
    use tokio::time::{Duration, timeout};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// The outcomes of audit lines.
    struct Log(mpsc::Sender<String>);

    struct Outcome<'a>(&'a Log);

    impl Visit for Outcome<'_> {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "outcome" {
                let _ = self.0.0.try_send(value.to_owned());
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "audit"
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut Outcome(self));
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    fn caller() -> Caller {
        Caller {
            who: Who::of(&Request::new(())),
            action: "app create",
        }
    }

    async fn noted(lines: &mut mpsc::Receiver<String>) -> String {
        let line = timeout(Duration::from_secs(60), lines.recv()).await;
        line.expect("an audit line").unwrap()
    }

    #[tokio::test]
    async fn a_change_is_made_and_noted_though_its_caller_has_hung_up() {
        let (log, mut lines) = mpsc::channel(8);
        let _log = tracing::subscriber::set_default(Log(log));
        let (commit, committed) = oneshot::channel();
        let change = async { committed.await.map_err(|_| Error::invalid("a", "dropped")) };
        let mut call = Box::pin(caller().changes(String::new(), change));
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        commit.send(()).expect("the change goes on");
        assert_eq!(noted(&mut lines).await, "ok");
    }

    #[tokio::test]
    async fn a_change_that_panics_is_noted() {
        let (log, mut lines) = mpsc::channel(8);
        let _log = tracing::subscriber::set_default(Log(log));
        let change = async { panic!("a bug") };
        let answer: Result<Response<()>, _> = caller().changes(String::new(), change).await;
        assert!(answer.is_err());
        assert_eq!(noted(&mut lines).await, "internal");
    }
}
