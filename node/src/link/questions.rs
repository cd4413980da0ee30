//! What operators want to know of gateways: a stream of its own beside each link, so that a question never stands in the way of a
//! message. A question that is not answered in time is nobody's: the operator asks again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use parlance_proto::link::v1::{GatewayAnswer, GatewayQuestion, gateway_answer, gateway_question};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout};
use tonic::Status;

/// How long a gateway may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Questions that wait for one gateway's stream.
const QUESTIONS_MAX: usize = 16;

/// What a stream of questions carries, as gRPC wants it.
pub(super) type Asked = Result<GatewayQuestion, Status>;

/// The gateways that this node can ask. Cheap to clone.
#[derive(Clone, Default)]
pub struct Gateways(Arc<Mutex<BTreeMap<String, Attending>>>);

/// One gateway's newest stream.
#[derive(Clone)]
struct Attending {
    stream: u64,
    questions: mpsc::Sender<Asked>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<gateway_answer::Body>>>>,
}

/// One stream, seen by the side that reads its answers. The gateway is no longer asked once it is dropped.
pub(super) struct Attendance {
    gateways: Gateways,
    gateway_id: String,
    stream: u64,
}

impl Gateways {
    /// Their ids, ascending.
    pub fn ids(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// Asks one of them; none if it does not answer in time.
    pub async fn ask(
        &self,
        gateway_id: &str,
        question: gateway_question::Body,
    ) -> Option<gateway_answer::Body> {
        let gateway = self.0.lock().get(gateway_id).cloned()?;
        let id = next_number();
        let (answer, answered) = oneshot::channel();
        gateway.waiting.lock().insert(id, answer);
        let body = Some(question);
        let asked = gateway.questions.try_send(Ok(GatewayQuestion { id, body }));
        let answer = match asked {
            Ok(()) => timeout(ANSWER_TIMEOUT, answered).await.ok(),
            Err(_) => None,
        };
        gateway.waiting.lock().remove(&id);
        answer?.ok()
    }

    /// A gateway's stream begins, in the place of its last one.
    pub(super) fn attend(&self, gateway_id: String) -> (Attendance, mpsc::Receiver<Asked>) {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let stream = next_number();
        let attending = Attending {
            stream,
            questions,
            waiting: Arc::default(),
        };
        self.0.lock().insert(gateway_id.clone(), attending);
        let attendance = Attendance {
            gateways: self.clone(),
            gateway_id,
            stream,
        };
        (attendance, asked)
    }
}

impl Attendance {
    /// An answer came.
    pub(super) fn answered(&self, answer: GatewayAnswer) {
        let gateways = self.gateways.0.lock();
        let Some(gateway) = gateways.get(&self.gateway_id) else {
            return;
        };
        let asker = gateway.waiting.lock().remove(&answer.id);
        if let (Some(asker), Some(body)) = (asker, answer.body) {
            // Whoever asked may have gone.
            let _ = asker.send(body);
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let mut gateways = self.gateways.0.lock();
        let newest = gateways.get(&self.gateway_id);
        if newest.is_some_and(|gateway| gateway.stream == self.stream) {
            gateways.remove(&self.gateway_id);
        }
    }
}

/// Unique in this process.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use parlance_proto::link::v1::{ListSessions, ListSessionsResult};

    use super::*;

    fn question() -> gateway_question::Body {
        gateway_question::Body::ListSessions(ListSessions::default())
    }

    #[tokio::test]
    async fn a_question_gets_its_answer_or_none_in_time() {
        let gateways = Gateways::default();
        assert!(gateways.ask("gateway-1", question()).await.is_none());
        let (attendance, mut asked) = gateways.attend("gateway-1".into());
        assert_eq!(gateways.ids(), ["gateway-1"]);
        let answering = async {
            let id = asked.recv().await.unwrap().unwrap().id;
            let result = ListSessionsResult::default();
            attendance.answered(GatewayAnswer {
                id,
                body: Some(gateway_answer::Body::ListSessions(result)),
                ..GatewayAnswer::default()
            });
        };
        let (answer, ()) = tokio::join!(gateways.ask("gateway-1", question()), answering);
        assert!(answer.is_some());
        assert!(
            gateways.ask("gateway-1", question()).await.is_none(),
            "silent"
        );
        assert!(gateways.0.lock()["gateway-1"].waiting.lock().is_empty());
    }

    #[tokio::test]
    async fn the_newest_stream_of_a_gateway_is_asked() {
        let gateways = Gateways::default();
        let (old, _) = gateways.attend("gateway-1".into());
        let (new, mut asked) = gateways.attend("gateway-1".into());
        drop(old);
        let ask = tokio::spawn({
            let gateways = gateways.clone();
            async move { gateways.ask("gateway-1", question()).await }
        });
        assert!(asked.recv().await.is_some());
        ask.abort();
        drop(new);
        assert!(gateways.ids().is_empty());
    }
}
