//! A shard becomes two while everybody chats: nothing is lost, doubled, reordered or forgotten, whatever happens to its
//! replicas meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::client::v1::server_frame::Body;
use parlance_tests::chaos::ChaosSpec;
use parlance_tests::cli::{NOT_POSSIBLE, Shell};
use parlance_tests::client::{Connection, history_forward};
use parlance_tests::cluster::shards::{owner, slot_of};
use parlance_tests::cluster::{Cluster, ClusterSpec, START_WITHIN};
use parlance_tests::faults::Fault;
use parlance_tests::load::LoadSpec;
use parlance_tests::logs::Allowed;
use parlance_tests::story::{must_pass, tell_under};
use parlance_tests::wait::until;
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);
/// About one election, on a machine that runs everything at once.
const LONGEST_GAP_MS: f64 = 2500.0;
const BEFORE: u64 = 10;

/// One shard has everything; its upper half goes to a child.
fn one_shard() -> ClusterSpec {
    ClusterSpec {
        shards: 1,
        ..ClusterSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_whose_conversation_moves_to_the_new_shard_notice_nothing() -> Result<()> {
    let gaps = tell_under(
        LoadSpec::default(),
        one_shard(),
        Allowed::default(),
        async |cluster| {
            let gateways = cluster.gateway_addresses();
            let (token, friend) = (cluster.signer.token("alice"), upper_friend()?);
            let mut alice = Connection::logged_in(&gateways[0], &token).await?;
            let mut bob =
                Connection::logged_in(&gateways[1], &cluster.signer.token(&friend)).await?;
            for number in 1..=BEFORE {
                alice.send(&friend, &format!("m{number}"), "before").await?;
            }
            let conversation = listed(&mut bob).await?;
            bob.mark_read(&conversation, 4).await?;

            split_by_command(cluster).await?;
            let status = cluster.any_admin().await?.status().await?;
            let child = owner(&status, slot_of(&conversation)?)?;
            ensure!(child.shard == 2, "the conversation did not move: {child:?}");

            let known = alice.send(&friend, "m3", "before").await?;
            ensure!(known.duplicate && known.seq == 3, "{known:?}");
            let other = alice.send(&friend, "m3", "another text").await;
            ensure!(
                other.as_ref().err().and_then(|e| e.code()).as_deref() == Some("conflict"),
                "{other:?}"
            );
            let sent = alice.send(&friend, "after", "after").await?;
            ensure!(sent.seq == BEFORE + 1 && !sent.duplicate, "{sent:?}");
            everything_came(&mut bob, BEFORE + 1).await?;
            let marked = bob.mark_read(&conversation, 5).await?;
            ensure!(
                (marked.read_seq, marked.unread_count) == (5, BEFORE + 1 - 5),
                "{marked:?}"
            );
            let log = bob.history(history_forward(&conversation, 1)).await?;
            let seqs: Vec<u64> = log.events.iter().map(|event| event.seq).collect();
            ensure!(seqs.iter().copied().eq(1..=BEFORE + 1), "{seqs:?}");
            Ok(())
        },
    )
    .await?;
    ensure!(
        gaps.longest_ms < LONGEST_GAP_MS,
        "shard {:?} was silent for {} ms",
        gaps.shard,
        gaps.longest_ms
    );
    Ok(())
}

/// Node killed, node frozen, node fed by snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_die_stand_still_or_come_late_find_the_split_done() -> Result<()> {
    must_pass(ChaosSpec::new(
        701,
        Duration::from_secs(20),
        vec![Fault::Split],
    ))
    .await
    .map(drop)
}

/// Whoever talks to alice in the half of the slots that the child gets.
fn upper_friend() -> Result<String> {
    let mut names = (0..1000).map(|number| format!("friend{number}"));
    names
        .find(|name| {
            let conversation = parlance_tests::direct::between("alice", name);
            conversation.is_ok_and(|id| slot_of(&id).is_ok_and(|slot| slot.number() >= 8192))
        })
        .context("no conversation in the upper half")
}

/// The one conversation in a user's list, once it has all that was sent before.
async fn listed(user: &mut Connection) -> Result<String> {
    until("the list has it", SOON, async || {
        let mut list = user.conversations("").await?.conversations;
        let row = list.pop().context("an empty list")?;
        ensure!(list.is_empty() && row.head_seq == BEFORE, "{row:?}");
        Ok(row.conversation_id)
    })
    .await
}

/// Splits shard 1 as an operator does, and looks at what the command line says of it.
async fn split_by_command(cluster: &mut Cluster) -> Result<()> {
    let shell = Shell::new(cluster)?;
    let split = shell.data(&["cluster", "split", "1"]).await?;
    cluster.spec.shards += 1;
    let slots = (&split["first_slot"], &split["last_slot"]);
    ensure!(
        split["child"] == 2 && slots == (&json!(8192), &json!(16_383)),
        "{split}"
    );
    // Asking for the same again splits nothing again; nor is there a shard 9.
    let again = shell
        .data(&["cluster", "split", "1", "--at", "8192"])
        .await?;
    ensure!(again["child"] == 2, "{again}");
    let unknown = shell.run(&["cluster", "split", "9"]).await?;
    ensure!(
        unknown.code == NOT_POSSIBLE && unknown.stderr.contains("shard 9"),
        "{unknown:?}"
    );
    cluster.wait_healthy(START_WITHIN).await?;
    let status = shell.data(&["cluster", "status"]).await?;
    let shards = &status["shards"];
    ensure!(
        shards[0]["last_slot"] == 8191
            && shards[1]["first_slot"] == 8192
            && shards[1]["epoch"] == shards[0]["epoch"],
        "{status}"
    );
    Ok(())
}

/// All events up to `last`, each in order, none twice.
async fn everything_came(user: &mut Connection, last: u64) -> Result<()> {
    let mut next = 1;
    while next <= last {
        if let Some(Body::Event(event)) = user.next_within(SOON).await?.body {
            ensure!(event.seq == next, "expected event {next}, got {event:?}");
            next += 1;
        }
    }
    Ok(())
}
