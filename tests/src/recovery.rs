//! The recovery: all faults off, the cluster must heal, every send must be answered, every session must have
//! everything. Then all that can be read is read, for the checker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::check::PUSHED_WITHIN_US;
use crate::client::{Connection, history_forward};
use crate::cluster::{APP, Cluster, START_WITHIN};
use crate::direct;
use crate::history::{
    Closing, History, ListRow, OnlineSession, ReaderLog, ReplicaDigest, ShardSlots, What,
};
use crate::load::Load;
use crate::session::event_as_seen;
use crate::token::Signer;
use crate::wait::until;

const HEAL_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Longer than what `check/pushed.rs` gives a push, so that one which never comes is judged.
const DELIVER_WITHIN: Duration = Duration::from_micros(PUSHED_WITHIN_US + 5_000_000);
const AGREE_WITHIN: Duration = Duration::from_secs(20);

/// Heals, waits, reads. An error is a cluster that did not heal; what it lost is for the checker to say.
pub async fn settle(cluster: &mut Cluster, load: &mut Load, history: &History) -> Result<Closing> {
    history.note("recovery: all faults off, the cluster must heal");
    for process in cluster.nodes.values_mut().chain(&mut cluster.gateways) {
        if let Some(status) = process.ended()? {
            bail!(
                "{} ended by itself with {status}:\n{}",
                process.name,
                process.tail(20)
            );
        }
        if !process.runs() {
            process.start()?;
        }
    }
    cluster.wait_nodes_ready(START_WITHIN).await?;
    cluster.wait_gateways_ready(START_WITHIN).await?;
    cluster.wait_healthy(HEAL_WITHIN).await?;
    load.drain(ANSWER_WITHIN).await?;
    load.wait_online(START_WITHIN).await?;
    history.note("recovery: every send is answered; reading everything back");
    let (gateways, signer) = (cluster.gateway_addresses(), cluster.signer.clone());
    let logs = read_logs(&gateways, &signer, history).await?;
    wait_delivered(load, &logs, history, DELIVER_WITHIN).await;
    let rows = read_lists(&gateways, &signer, &logs).await?;
    let replicas = read_replicas(cluster, history).await?;
    let shards = read_map(cluster).await?;
    let online = load
        .sessions
        .iter()
        .map(|s| OnlineSession {
            session: s.name.clone(),
            user: s.user.clone(),
        })
        .collect();
    Ok(Closing {
        logs,
        rows,
        replicas,
        online,
        shards,
        app_id: APP.to_owned(),
    })
}

/// Every conversation that anybody sent to, by both users, through every gateway.
pub(crate) async fn read_logs(
    gateways: &[String],
    signer: &Signer,
    history: &History,
) -> Result<Vec<ReaderLog>> {
    let mut conversations = BTreeSet::new();
    for entry in history.entries() {
        if let What::Attempt { message, .. } = entry.what {
            conversations.insert(message.conversation);
        }
    }
    let mut by_user = BTreeMap::<String, Vec<String>>::new();
    for id in conversations {
        for user in direct::users(&id)? {
            by_user.entry(user).or_default().push(id.clone());
        }
    }
    let mut logs = Vec::new();
    for gateway in gateways {
        for (user, conversations) in &by_user {
            let mut connection = Connection::logged_in(gateway, &signer.token(user)).await?;
            for conversation in conversations {
                let events = read_log(&mut connection, conversation).await?;
                let (reader, gateway, conversation) =
                    (user.clone(), gateway.clone(), conversation.clone());
                logs.push(ReaderLog {
                    reader,
                    gateway,
                    conversation,
                    events,
                });
            }
            connection.close().await;
        }
    }
    Ok(logs)
}

async fn read_log(
    connection: &mut Connection,
    conversation: &str,
) -> Result<Vec<crate::history::SeenEvent>> {
    let mut events = Vec::new();
    let mut from = 1;
    loop {
        let page = connection
            .history(history_forward(conversation, from))
            .await;
        let page = page.with_context(|| format!("read {conversation} from {from}"))?;
        let Some(last) = page.events.last().map(|event| event.seq) else {
            break;
        };
        events.extend(page.events.into_iter().map(event_as_seen));
        from = last + 1;
        if !page.more {
            break;
        }
    }
    Ok(events)
}

/// Sessions catch up without help from here; if they do not in time, the checker will see it.
pub(crate) async fn wait_delivered(
    load: &Load,
    logs: &[ReaderLog],
    history: &History,
    within: Duration,
) {
    let heads: BTreeMap<&str, u64> = logs
        .iter()
        .map(|log| (log.conversation.as_str(), log.events.len() as u64))
        .collect();
    let delivered = until("every session has every event", within, async || {
        for session in &load.sessions {
            let last = session.last();
            for (conversation, head) in &heads {
                let member = direct::peer(conversation, &session.user).is_some();
                let has = last.get(*conversation).copied().unwrap_or_default();
                if member && has < *head {
                    bail!("{} has {conversation} up to {has} of {head}", session.name);
                }
            }
            let unpushed = session.unpushed();
            if unpushed > 0 {
                bail!(
                    "{} had to fetch {unpushed} events that were not pushed",
                    session.name
                );
            }
        }
        Ok(())
    });
    if let Err(error) = delivered.await {
        history.note(format!("{error:#}"));
    }
}

pub(crate) async fn read_lists(
    gateways: &[String],
    signer: &Signer,
    logs: &[ReaderLog],
) -> Result<Vec<ListRow>> {
    let users: BTreeSet<&str> = logs.iter().map(|log| log.reader.as_str()).collect();
    let mut rows = Vec::new();
    for gateway in gateways {
        for user in &users {
            let mut connection = Connection::logged_in(gateway, &signer.token(user)).await?;
            let mut after = String::new();
            loop {
                let page = connection
                    .conversations(&after)
                    .await
                    .context("list conversations")?;
                let unknown = page.conversations.iter().find(|row| row.head_unknown);
                if let Some(row) = unknown {
                    bail!("nobody knows the head of {}", row.conversation_id);
                }
                rows.extend(page.conversations.into_iter().map(|row| ListRow {
                    user: (*user).to_owned(),
                    gateway: gateway.clone(),
                    conversation: row.conversation_id,
                    head_seq: row.head_seq,
                    read_seq: row.read_seq,
                    unread_count: row.unread_count,
                }));
                if page.next_after.is_empty() {
                    break;
                }
                after = page.next_after;
            }
            connection.close().await;
        }
    }
    Ok(rows)
}

/// The digests of all replicas, when those of each shard stand at the same index; else as they stand.
async fn read_replicas(cluster: &Cluster, history: &History) -> Result<Vec<ReplicaDigest>> {
    let mut all = Vec::new();
    let status = cluster.any_admin().await?.status().await?;
    for shard in status.shards {
        let (shard, wanted) = (shard.shard, shard.wanted);
        let mut last = Vec::new();
        let agreed = until(
            &format!("the replicas of shard {shard} stand at one index"),
            AGREE_WITHIN,
            async || {
                last = read_shard(cluster, shard, &wanted).await?;
                let indexes: BTreeSet<u64> = last.iter().map(|replica| replica.applied).collect();
                if indexes.len() > 1 {
                    bail!("they stand at {indexes:?}");
                }
                Ok(())
            },
        )
        .await;
        if let Err(error) = agreed {
            history.note(format!("{error:#}"));
        }
        if last.len() != wanted.len() {
            bail!(
                "shard {shard}: only {} of the replicas {wanted:?} were read",
                last.len()
            );
        }
        all.extend(last);
    }
    Ok(all)
}

/// Which shard has which slots.
async fn read_map(cluster: &Cluster) -> Result<Vec<ShardSlots>> {
    let status = cluster.any_admin().await?.status().await?;
    let shards = status.shards.into_iter().map(|shard| ShardSlots {
        shard: shard.shard,
        first_slot: shard.first_slot,
        last_slot: shard.last_slot,
    });
    Ok(shards.collect())
}

async fn read_shard(cluster: &Cluster, shard: u32, nodes: &[u64]) -> Result<Vec<ReplicaDigest>> {
    let mut replicas = Vec::new();
    for node_id in nodes.iter().copied() {
        let digest = cluster.admin(node_id).await?.digest(shard).await?;
        let (applied, digest, rows) = (digest.applied, digest.digest_hex, digest.rows);
        replicas.push(ReplicaDigest {
            node_id,
            shard,
            applied,
            digest,
            rows,
        });
    }
    Ok(replicas)
}
