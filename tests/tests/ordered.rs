//! P2: one order without gaps for everybody, and reads that are never behind an acknowledgement.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_proto::client::v1::server_frame::Body;
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::client::Connection;
use parlance_tests::cluster::ClusterSpec;
use parlance_tests::faults::Fault;
use parlance_tests::logs::Allowed;
use parlance_tests::story::{must_pass, tell};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fault_nothing_has_to_be_retried() -> Result<()> {
    let mut spec = ChaosSpec::new(201, Duration::from_secs(8), vec![Fault::None]);
    spec.load.rate = 600;
    let report = must_pass(spec).await?;
    ensure!(
        report.counts.doubts == 0,
        "doubts without a fault: {:?}",
        report.counts.doubts_by_reason
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_neither_forks_the_order_nor_answers_old_reads() -> Result<()> {
    must_pass(ChaosSpec::new(
        202,
        Duration::from_secs(6),
        vec![Fault::FreezeLeader],
    ))
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_acknowledges_nothing_that_is_lost() -> Result<()> {
    let faults = vec![Fault::Partition, Fault::BadNetwork];
    must_pass(ChaosSpec::new(203, Duration::from_secs(4), faults))
        .await
        .map(drop)
}

/// What comes while the conversation is put into its members' lists does not overtake what came before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_messages_of_a_conversation_are_pushed_in_their_order() -> Result<()> {
    const CONVERSATIONS: usize = 150;
    const MESSAGES: u64 = 4;
    tell(
        ClusterSpec::default(),
        Allowed::default(),
        async |cluster| {
            let gateway = &cluster.gateway_addresses()[0];
            let token = |user: &str| cluster.signer.token(user);
            let mut reader = Connection::logged_in(gateway, &token("reader")).await?;
            for number in 0..CONVERSATIONS {
                let name = format!("s{number}");
                let mut sender = Connection::logged_in(gateway, &token(&name)).await?;
                for number in 1..=MESSAGES {
                    sender.send("reader", &number.to_string(), "hello").await?;
                }
                let mut next = 1;
                while next <= MESSAGES {
                    match reader.next_within(SOON).await?.body {
                        Some(Body::Event(event)) if event.sender != name => {}
                        Some(Body::Event(event)) => {
                            ensure!(event.seq == next, "{event:?} in the place of {next}");
                            next += 1;
                        }
                        // A young cluster may still move a leader: what was pushed meanwhile is in the history.
                        Some(Body::Resync(_)) => break,
                        other => anyhow::bail!("not an event but {other:?}"),
                    }
                }
                sender.close().await;
            }
            Ok(())
        },
    )
    .await
}
