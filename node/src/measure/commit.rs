//! A node's commit path, from a shard's queue to the answer: gathered into entries, replicated, applied with all rows.
//! Beside it the bare library with entries of the same number and size in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlance_proto::client::v1::{Content, Message as ChatMessage, content, event};
use parlance_proto::event::encode_body;
use parlance_proto::ids::{AppId, ConversationId, DirectId, NodeId, ShardId, UserId};
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::store::v1::{NewMessage, SendCommand};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{
    Bench, COMMAND_BYTES, Figures, Machines, Transport, leading, measure, ms, runtime, us,
};
use crate::clock::SystemEnvironment;
use crate::raft::Replica;
use crate::raft::tests::fixture::eventually;
use crate::shard::{Proposer, ProposerLimits, Shard};
use crate::totals::Totals;

const SHARDS: u16 = 64;
const LEADERS_SETTLE: Duration = Duration::from_secs(20);

impl Bench {
    /// The leader of a shard, which owns these slots from now on.
    async fn founded(&self, id: ShardId, slots: SlotRange) -> Arc<Shard> {
        let deadline = Instant::now() + LEADERS_SETTLE;
        loop {
            let raft = eventually("a leader", || leading(&self.hosts, id)).await;
            let shard = self.shard(raft);
            // With so many elections at once the first leader of a shard may not stay.
            match shard.found(slots).await {
                Ok(()) => return shard,
                Err(e) => assert!(Instant::now() < deadline, "not founded: {e}"),
            }
        }
    }

    fn shard(&self, raft: Replica) -> Arc<Shard> {
        let node = raft.leadership().borrow().leader.unwrap_or(NodeId(1));
        let id = raft.id();
        let parts = self.parts[&(node, id)].clone();
        let proposer = Proposer::start(
            raft.clone(),
            ProposerLimits::default(),
            parts.marks().clone(),
            Arc::new(|| 1),
            Arc::new(SystemEnvironment),
            Totals::default().queues,
        );
        let store = self.stores[node.0 as usize - 1].clone();
        Arc::new(Shard::new(raft, proposer, parts, store))
    }

    /// Sends messages through proposers, each client in a conversation of its own. Also answers how many commands an
    /// entry had.
    async fn send(&self, in_flight: usize) -> (Figures, f64) {
        let mut led = Vec::new();
        for (id, slots) in (1..).map(ShardId).zip(SlotRange::divide(SHARDS)) {
            led.push((slots, self.founded(id, slots).await));
        }
        let entries = || -> u64 {
            let shards = led.iter().map(|(_, shard)| shard.raft().status());
            shards.map(|status| status.last_log_index).sum()
        };
        let (before, sent) = (entries(), Arc::new(AtomicU64::new(0)));
        let figures = measure(in_flight, |client| {
            let (app, conversation) = (AppId::new("demo").unwrap(), conversation(client));
            let slot = Slot::of_conversation(&app, &conversation);
            let (_, shard) = led.iter().find(|(slots, _)| slots.contains(slot)).unwrap();
            let (shard, sent) = (shard.clone(), sent.clone());
            let mut number = 0;
            move || {
                number += 1;
                sent.fetch_add(1, Ordering::Relaxed);
                let (reply, answer) = oneshot::channel();
                shard.submit(message(client, number), move |result| {
                    let _ = reply.send(result.is_ok());
                });
                async move { answer.await.unwrap_or_default() }
            }
        })
        .await;
        let commands = sent.load(Ordering::Relaxed) as f64 / (entries() - before) as f64;
        (figures, commands)
    }
}

fn sender(client: usize) -> UserId {
    UserId::new(format!("sender-{client:06}")).unwrap()
}

fn conversation(client: usize) -> ConversationId {
    let receiver = UserId::new("receiver").unwrap();
    ConversationId::Direct(DirectId::between(&sender(client), &receiver).unwrap())
}

fn message(client: usize, number: u64) -> SendCommand {
    let client_message_id = format!("{client}-{number}");
    let content = Content {
        kind: Some(content::Kind::Text("x".repeat(COMMAND_BYTES))),
    };
    let body = encode_body(event::Body::Message(ChatMessage {
        client_message_id: client_message_id.clone(),
        content: Some(content),
    }));
    SendCommand {
        app_id: "demo".into(),
        conversation_id: conversation(client).to_string(),
        sender: sender(client).to_string(),
        session_id: String::new(),
        messages: vec![NewMessage {
            client_message_id,
            body,
        }],
    }
}

#[test]
#[ignore = "a measurement of half a minute"]
fn commit_throughput() {
    println!(
        "| in flight | commands an entry | node: commands/s | p50 ms | p99 ms | CPU µs a command | bare: commands/s | CPU µs a command | node / bare |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for in_flight in [1, 64, 1024, 8192] {
        runtime().block_on(async {
            let bench = Bench::start(Transport::Quic, Machines::Shards, SHARDS.into()).await;
            let (node, commands) = bench.send(in_flight).await;
            bench.stop().await;
            // A proposer has one entry in flight.
            let entries_in_flight = in_flight.min(SHARDS as usize);
            let entry_bytes = message(0, 1).encoded_len() as f64 * commands;
            let bench = Bench::start(Transport::Quic, Machines::None, SHARDS.into()).await;
            let bare = bench
                .propose(SHARDS.into(), entries_in_flight, entry_bytes as usize)
                .await;
            bench.stop().await;
            let bare_commands = bare.per_second * commands;
            println!(
                "| {in_flight} | {commands:.1} | {:.0} | {:.2} | {:.2} | {:.0} | {bare_commands:.0} | {:.0} | {:.2} |",
                node.per_second,
                ms(node.p50),
                ms(node.p99),
                us(node.cpu),
                us(bare.cpu) / commands,
                node.per_second / bare_commands,
            );
        });
    }
}
