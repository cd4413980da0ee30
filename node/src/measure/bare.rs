//! The Raft library with our log store: no rows, no gathering.

use bytes::Bytes;
use parlance_proto::ids::ShardId;

use super::{Bench, COMMAND_BYTES, Figures, Machines, Transport, leading, measure, ms, runtime};

impl Bench {
    /// Proposes entries of so many bytes; the clients take turns with the shards.
    pub(super) async fn propose(
        &self,
        shards: u32,
        in_flight: usize,
        entry_bytes: usize,
    ) -> Figures {
        let payload = Bytes::from(vec![7; entry_bytes]);
        measure(in_flight, |client| {
            let shard = leading(&self.hosts, ShardId(1 + client as u32 % shards)).unwrap();
            let payload = payload.clone();
            move || {
                let (shard, payload) = (shard.clone(), payload.clone());
                async move { shard.propose(payload).await.is_ok() }
            }
        })
        .await
    }
}

#[test]
#[ignore = "a measurement of about two minutes"]
fn bare_library() {
    println!(
        "| transport | shards | in flight | commands an entry | entries/s | commands/s | p50 ms | p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, transport) in [("direct", Transport::Direct), ("quic", Transport::Quic)] {
        for shards in [1, 64] {
            runtime().block_on(async {
                let bench = Bench::start(transport, Machines::None, shards).await;
                for (in_flight, commands) in [(1, 1), (64, 1), (1024, 1), (64, 64), (256, 64)] {
                    let run = bench.propose(shards, in_flight, commands * COMMAND_BYTES).await;
                    println!(
                        "| {name} | {shards} | {in_flight} | {commands} | {:.0} | {:.0} | {:.2} | {:.2} |",
                        run.per_second,
                        run.per_second * commands as f64,
                        ms(run.p50),
                        ms(run.p99),
                    );
                }
                bench.stop().await;
            });
        }
    }
}
