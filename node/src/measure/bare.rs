//! The Raft library with our log store: no rows, no gathering.

use bytes::Bytes;
use parlance_proto::shard::Group;

use super::{Bench, COMMAND_BYTES, Figures, Machines, Transport, leading, measure, ms, runtime};

impl Bench {
    /// Proposes entries of so many bytes; the clients take turns with the groups.
    pub(super) async fn propose(
        &self,
        groups: Group,
        in_flight: usize,
        entry_bytes: usize,
    ) -> Figures {
        let payload = Bytes::from(vec![7; entry_bytes]);
        measure(in_flight, |client| {
            let group = leading(&self.hosts, 1 + client as Group % groups).unwrap();
            let payload = payload.clone();
            move || {
                let (group, payload) = (group.clone(), payload.clone());
                async move { group.propose(payload).await.is_ok() }
            }
        })
        .await
    }
}

#[test]
#[ignore = "a measurement of about two minutes"]
fn bare_library() {
    println!(
        "| transport | groups | in flight | commands an entry | entries/s | commands/s | p50 ms | p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, transport) in [("direct", Transport::Direct), ("quic", Transport::Quic)] {
        for groups in [1, 64] {
            runtime().block_on(async {
                let bench = Bench::start(transport, Machines::None, groups).await;
                for (in_flight, commands) in [(1, 1), (64, 1), (1024, 1), (64, 64), (256, 64)] {
                    let run = bench.propose(groups, in_flight, commands * COMMAND_BYTES).await;
                    println!(
                        "| {name} | {groups} | {in_flight} | {commands} | {:.0} | {:.0} | {:.2} | {:.2} |",
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
