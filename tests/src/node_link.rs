//! A link to one node, as a gateway has it: requests out, answers in. It resumes nothing and routes nothing, and acknowledges
//! nothing until it asks again.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::channel::mpsc;
use parlance_proto::link::v1::link_client::LinkClient;
use parlance_proto::link::v1::{GatewayFrame, Hello, NodeFrame, Request, Response, request};
use parlance_proto::tls::TlsFiles;
use parlance_proto::version::{LINK_PROTOCOLS, greeting};
use prost::Message as _;
use std::collections::VecDeque;
use tonic::Streaming;

use crate::admin::channel;

/// What it says of its version.
pub const VERSION: &str = "0.0.0-probe";
/// Frames on their way to a node that does not take them.
const FRAMES_MAX: usize = 64;

/// Which node, and who asks.
#[derive(Debug, Clone)]
pub struct LinkAddress {
    pub node: String,
    pub gateway_id: String,
    pub identity: TlsFiles,
}

/// An open link.
pub struct NodeLink {
    frames: mpsc::Sender<GatewayFrame>,
    incoming: Streaming<NodeFrame>,
    waiting: VecDeque<Response>,
    sent: u64,
    received: u64,
    last_id: u64,
}

impl NodeLink {
    /// Connects and is welcomed, as a new link session.
    pub async fn open(address: &LinkAddress) -> Result<Self> {
        let identity = &address.identity;
        let channel = channel(&address.node, &identity.ca, Some(identity)).await?;
        let (mut frames, outgoing) = mpsc::channel(FRAMES_MAX);
        #[allow(clippy::disallowed_methods, reason = "no link session is another's")]
        let link_id = rand::random::<u64>().to_string();
        let hello = Hello {
            protocol: greeting(LINK_PROTOCOLS),
            gateway_id: address.gateway_id.clone(),
            link_id,
            version: VERSION.to_owned(),
            instance_id: address.gateway_id.clone(),
            ..Hello::default()
        };
        frames.try_send(GatewayFrame {
            hello: Some(hello),
            ..GatewayFrame::default()
        })?;
        let mut incoming = LinkClient::new(channel).open(outgoing).await?.into_inner();
        let first = incoming.message().await?.context("no first frame")?;
        ensure!(first.welcome.is_some(), "no welcome: {first:?}");
        Ok(Self {
            frames,
            incoming,
            waiting: VecDeque::new(),
            sent: 0,
            received: 0,
            last_id: 0,
        })
    }

    /// Asks shards, all in one frame; gives the first question's id, those of the others follow. None if the node takes
    /// nothing at the moment.
    pub fn ask(&mut self, questions: Vec<(u32, request::Body)>) -> Option<u64> {
        let first = self.last_id + 1;
        let requests = (first..)
            .zip(&questions)
            .map(|(id, (shard, body))| Request {
                id,
                shard: *shard,
                body: Some(body.clone()),
            });
        let frame = GatewayFrame {
            number: self.sent + 1,
            ack: self.received,
            requests: requests.map(|ask| ask.encode_to_vec().into()).collect(),
            ..GatewayFrame::default()
        };
        self.frames.try_send(frame).ok()?;
        self.sent += 1;
        self.last_id += questions.len() as u64;
        Some(first)
    }

    /// The next answer. Cancel safe.
    pub async fn answer(&mut self) -> Result<Response> {
        loop {
            if let Some(response) = self.waiting.pop_front() {
                return Ok(response);
            }
            let frame = self.incoming.next().await.context("the link ended")??;
            self.received = self.received.max(frame.number);
            self.waiting.extend(frame.responses);
        }
    }
}
