//! A node's commit path, from a shard's queue to the answer: gathered into entries, replicated, applied with all rows.
//! Beside it the bare library with entries of the same number and size in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parlance_proto::client::v1::{Content, content};
use parlance_proto::ids::DirectConversation;
use parlance_proto::shard::Group;
use parlance_proto::store::v1::{Command, SendCommand, command};
use prost::Message;
use tokio::sync::oneshot;

use super::{
    Bench, COMMAND_BYTES, Figures, Machines, Transport, leading, measure, ms, runtime, us,
};
use crate::clock::SystemEnvironment;
use crate::shard::{Proposer, ProposerLimits};

const GROUPS: Group = 64;

impl Bench {
    /// Sends messages through proposers, each client in a conversation of its own. Also answers how many commands an
    /// entry had.
    async fn send(&self, in_flight: usize) -> (Figures, f64) {
        let led: Vec<_> = (1..=GROUPS)
            .map(|group| leading(&self.hosts, group).unwrap())
            .collect();
        let proposers: Vec<Proposer> = led
            .iter()
            .map(|raft| {
                let relayed = Arc::new(AtomicU64::new(0));
                let environment = Arc::new(SystemEnvironment);
                Proposer::start(
                    raft.clone(),
                    ProposerLimits::default(),
                    relayed,
                    environment,
                )
            })
            .collect();
        let entries = || -> u64 { led.iter().map(|raft| raft.status().last_log_index).sum() };
        let (before, sent) = (entries(), Arc::new(AtomicU64::new(0)));
        let figures = measure(in_flight, |client| {
            let (proposer, sent) = (proposers[client % proposers.len()].clone(), sent.clone());
            let mut number = 0;
            move || {
                number += 1;
                sent.fetch_add(1, Ordering::Relaxed);
                let (reply, answer) = oneshot::channel();
                proposer.submit(
                    vec![message(client, number)],
                    Box::new(move |result| {
                        let _ = reply.send(result.is_ok());
                    }),
                );
                async move { answer.await.unwrap_or_default() }
            }
        })
        .await;
        let commands = sent.load(Ordering::Relaxed) as f64 / (entries() - before) as f64;
        (figures, commands)
    }
}

fn message(client: usize, number: u64) -> Command {
    let sender = format!("sender-{client:06}");
    let conversation = DirectConversation::between(&sender, "receiver").unwrap();
    let content = Content {
        kind: Some(content::Kind::Text("x".repeat(COMMAND_BYTES))),
    };
    Command {
        body: Some(command::Body::Send(SendCommand {
            app_id: "demo".into(),
            conversation_id: conversation.to_string(),
            sender,
            client_message_id: format!("{client}-{number}"),
            content: content.encode_to_vec().into(),
            session_id: String::new(),
        })),
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
            let bench = Bench::start(Transport::Quic, Machines::Shards, GROUPS).await;
            let (node, commands) = bench.send(in_flight).await;
            bench.stop().await;
            // A proposer has one entry in flight.
            let entries_in_flight = in_flight.min(GROUPS as usize);
            let entry_bytes = message(0, 1).encoded_len() as f64 * commands;
            let bench = Bench::start(Transport::Quic, Machines::None, GROUPS).await;
            let bare = bench
                .propose(GROUPS, entries_in_flight, entry_bytes as usize)
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
