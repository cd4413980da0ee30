//! Answers what operators ask of this gateway, over a stream of its own to each node.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::link::v1::link_client::LinkClient;
use parlance_proto::link::v1::{GatewayAnswer, gateway_answer, gateway_question};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::Router;
use super::backoff::Backoff;

const PAUSE_LEAST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// Answers that the node has not taken yet; beyond it no question is read.
const ANSWERS_AHEAD: usize = 2;

/// Answers a question; short, for nobody is asked meanwhile.
pub type Answerer = Arc<dyn Fn(gateway_question::Body) -> gateway_answer::Body + Send + Sync>;

/// Answers one node's questions while the link to it stands.
pub async fn attend(mut client: LinkClient<Channel>, router: Arc<Router>) {
    let mut backoff = Backoff::new(PAUSE_LEAST, PAUSE_MOST);
    loop {
        if let Err(status) = stream(&mut client, &router).await {
            tracing::debug!(%status, "questions ended");
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

async fn stream(client: &mut LinkClient<Channel>, router: &Router) -> Result<(), tonic::Status> {
    let (answers, outgoing) = mpsc::channel(ANSWERS_AHEAD);
    let introduction = GatewayAnswer {
        gateway_id: router.gateway_id().to_owned(),
        ..GatewayAnswer::default()
    };
    // There is room: nothing has been sent yet.
    let _ = answers.try_send(introduction);
    let questions = client.attend(ReceiverStream::new(outgoing)).await?;
    let mut questions = questions.into_inner();
    while let Some(question) = questions.message().await? {
        let answer = GatewayAnswer {
            id: question.id,
            body: question.body.and_then(|body| router.answer(body)),
            ..GatewayAnswer::default()
        };
        if answers.send(answer).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
