//! P4: every session gets everything, once and in order, through the death of a gateway and after being away.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_client::Format;
use parlance_proto::client::v1::server_frame::Body;
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::client::Connection;
use parlance_tests::cluster::ClusterSpec;
use parlance_tests::faults::Fault;
use parlance_tests::logs::Allowed;
use parlance_tests::story::{must_pass, tell};
use parlance_tests::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_and_the_death_of_a_gateway_lose_no_event() -> Result<()> {
    must_pass(ChaosSpec::new(
        401,
        Duration::from_secs(4),
        vec![Fault::DropConnections, Fault::KillGateway],
    ))
    .await
    .map(drop)
}

/// The binary sender and the JSON receiver are on different gateways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_offline_is_there_at_the_next_login_and_then_it_is_pushed() -> Result<()> {
    tell(
        ClusterSpec::default(),
        Allowed::default(),
        async |cluster| {
            let gateways = cluster.gateway_addresses();
            let mut alice =
                Connection::logged_in(&gateways[0], &cluster.signer.token("alice")).await?;
            for number in 1..=3 {
                alice
                    .send("bob", &format!("missed-{number}"), "while you were away")
                    .await?;
            }
            let mut bob = Connection::open_with(&gateways[1], Format::Json).await?;
            bob.login(&cluster.signer.token("bob")).await?;
            // The list follows the acknowledgement by a moment: it is another shard's.
            let list = until("the list has it", Duration::from_secs(5), async || {
                let list = bob.conversations("").await?.conversations;
                ensure!(list.len() == 1, "{list:?}");
                Ok(list)
            })
            .await?;
            ensure!(list[0].peer == "alice", "{list:?}");
            ensure!(
                (list[0].head_seq, list[0].unread_count) == (3, 3),
                "{list:?}"
            );
            let marked = bob.mark_read(&list[0].conversation_id, 2).await?;
            ensure!(
                (marked.read_seq, marked.unread_count) == (2, 1),
                "{marked:?}"
            );

            let sent = alice.send("bob", "now", "and now?").await?;
            // What was acknowledged just before the login may be pushed after it, too: the list told of it first.
            let pushed = loop {
                let frame = bob.next_within(Duration::from_secs(5)).await?;
                if let Some(Body::Event(event)) = frame.body
                    && event.seq > list[0].head_seq
                {
                    break event;
                }
            };
            ensure!(
                (pushed.seq, pushed.time_ms) == (sent.seq, sent.time_ms),
                "{pushed:?} is not {sent:?}"
            );
            // Alice hears that bob has read, and nothing of her own send but its answer.
            let cursor = loop {
                match alice.next_within(Duration::from_secs(5)).await?.body {
                    Some(Body::ReadCursor(cursor)) => break cursor,
                    Some(Body::Event(event)) => {
                        anyhow::bail!("alice was pushed her own message: {event:?}")
                    }
                    _ => {}
                }
            };
            ensure!(
                (cursor.user_id.as_str(), cursor.read_seq) == ("bob", 2),
                "{cursor:?}"
            );
            Ok(())
        },
    )
    .await
}
