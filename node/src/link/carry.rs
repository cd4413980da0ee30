//! One stream of a link: frames both ways, until either way or the session is over.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use parlance_proto::link::v1::{GatewayFrame, Request as LinkRequest};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::Status;

use super::LinkService;
use super::session::{Arrived, Departing, LinkSession};
use crate::metrics;

impl LinkService {
    /// Carries a session over one stream, until either is over. A session that is closed ends its stream at once: the writer may
    /// wait for a gateway that reads nothing.
    pub(super) async fn carry(
        &self,
        session: &Arc<LinkSession>,
        stream: u64,
        frames: impl Stream<Item = Result<GatewayFrame, Status>> + Unpin,
        to: mpsc::Sender<Departing>,
    ) {
        tokio::select! {
            () = session.write(stream, to) => {}
            () = self.read(session, frames) => {}
            () = session.closed() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn read(
        &self,
        session: &Arc<LinkSession>,
        mut frames: impl Stream<Item = Result<GatewayFrame, Status>> + Unpin,
    ) {
        while let Some(Ok(frame)) = frames.next().await {
            let requests = frame.requests.into_iter().map(LinkRequest::decode);
            let requests: Vec<LinkRequest> = match requests.collect() {
                Ok(requests) => requests,
                Err(error) => {
                    // Not resumed, the gateway asks again elsewhere for what has no answer.
                    let gateway = session.gateway_id();
                    tracing::warn!(gateway, %error, "link closed: a request cannot be read");
                    metrics::link_closed("unreadable");
                    return session.close();
                }
            };
            session.acknowledge(frame.ack);
            if frame.number > 0 {
                match session.receive(frame.number) {
                    Arrived::Next => {}
                    Arrived::Again => continue,
                    Arrived::Early => {
                        let (gateway, number) = (session.gateway_id(), frame.number);
                        tracing::warn!(gateway, number, "a link lost frames: its stream ends");
                        return;
                    }
                }
            }
            for request in requests {
                (self.dispatch)(session, request);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use parlance_proto::ids::NodeId;
    use parlance_proto::link::v1::Hello;
    use parlance_proto::tls::CertificateFacts;
    use parlance_tls::Seldom;
    use tokio::task::yield_now;
    use tokio::time::{Duration, timeout};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::link::Links;
    use crate::link::session::{Receipt, stream_channel};

    const SOON: Duration = Duration::from_secs(60);

    fn service(links: Links) -> LinkService {
        LinkService {
            node_id: NodeId(1),
            links,
            cluster_id: Arc::new(String::new),
            dispatch: Arc::new(|_, _| ()),
            watch: Arc::new(|_| Box::pin(stream::pending())),
            refusals: Arc::new(Seldom::new("links that are refused")),
            stop: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn a_link_that_is_closed_while_its_gateway_reads_nothing_holds_nothing_from_then_on() {
        let links = Links::new(1000);
        let service = service(links.clone());
        let hello = Hello {
            gateway_id: "g".into(),
            link_id: "a".into(),
            instance_id: "1".into(),
            ..Hello::default()
        };
        let certificate = CertificateFacts {
            serial: "01".parse().unwrap(),
            expires_s: 0,
        };
        let attached = links.attach(&hello, certificate).ok().unwrap();
        let (session, stream) = (attached.session, attached.stream);
        let (to, mut departing, ending) = stream_channel();
        let full = to.clone();
        let carried = session.clone();
        let carrying = tokio::spawn(async move {
            service.carry(&carried, stream, stream::pending(), to).await;
            ending.of(&carried);
            service.links.detach(carried, stream);
        });
        // A frame each, until the writer waits for room.
        while full.capacity() > 0 {
            let (receipt, _) = Receipt::new();
            session.publish(vec![0; 50].into(), receipt);
            yield_now().await;
        }
        drop(full);
        let (receipt, _) = Receipt::new();
        session.publish(vec![0; 50].into(), receipt);
        yield_now().await;
        assert!(links.held() > 0 && !session.is_closed());
        let shedding = tokio::spawn(links.clone().keep_within_budget());
        let (receipt, _) = Receipt::new();
        session.publish(vec![0; 2000].into(), receipt);
        timeout(SOON, carrying).await.unwrap().unwrap();
        assert!(session.is_closed());
        assert_eq!((links.held(), links.linked().len()), (0, 0));
        assert!(departing.next().await.is_none(), "the stream has ended");
        shedding.abort();
    }
}
