//! A gateway that opens a link, is answered, and never acknowledges.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures::channel::mpsc;
use parlance_proto::link::v1::link_client::LinkClient;
use parlance_proto::link::v1::{GatewayFrame, Heads, Hello, NodeFrame, Request, request};
use parlance_proto::tls::TlsFiles;
use parlance_proto::version::{LINK_PROTOCOLS, greeting};
use parlance_tests::admin::channel;
use prost::Message as _;
use tonic::Streaming;

/// It goes when this is dropped.
pub struct SilentGateway {
    _frames: mpsc::Sender<GatewayFrame>,
    _incoming: Streaming<NodeFrame>,
}

impl SilentGateway {
    /// Asks one thing of the node, and takes the answer as far as the transport.
    pub async fn open(address: &str, ca: &Path, identity: &TlsFiles, id: &str) -> Result<Self> {
        let channel = channel(address, ca, Some(identity)).await?;
        let (mut frames, outgoing) = mpsc::channel(2);
        let hello = Hello {
            protocol: greeting(LINK_PROTOCOLS),
            gateway_id: id.to_owned(),
            link_id: id.to_owned(),
            version: "0.0.0-probe".to_owned(),
            instance_id: id.to_owned(),
            ..Hello::default()
        };
        frames.try_send(GatewayFrame {
            hello: Some(hello),
            ..GatewayFrame::default()
        })?;
        let mut incoming = LinkClient::new(channel).open(outgoing).await?.into_inner();
        let first = incoming.message().await?.context("no first frame")?;
        ensure!(first.welcome.is_some(), "no welcome: {first:?}");
        let request = Request {
            id: 1,
            shard: 1,
            body: Some(request::Body::Heads(Heads::default())),
        };
        frames.try_send(GatewayFrame {
            number: 1,
            requests: vec![request.encode_to_vec().into()],
            ..GatewayFrame::default()
        })?;
        Ok(Self {
            _frames: frames,
            _incoming: incoming,
        })
    }
}
