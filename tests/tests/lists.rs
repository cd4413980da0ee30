//! P4 at its price: whoever comes back is told what changed, and the cluster is asked for no more than that; what was known
//! and what is told since are always the whole list.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::client::v1::{Conversation, ConversationsRequest};
use parlance_proto::ids::{AppId, UserId};
use parlance_proto::slot::Slot;
use parlance_tests::client::Connection;
use parlance_tests::cluster::health::metric;
use parlance_tests::cluster::shards::owner;
use parlance_tests::cluster::{APP, Cluster, ClusterSpec};
use parlance_tests::wait::until;

const CHATS: usize = 1_000;
/// Told again and again, since a new leader relays once more what was not confirmed, and yet nothing like the whole list.
const FEW: usize = CHATS / 10;
const SHARDS: u32 = 4;
/// Who says something while the user is away.
const CHANGED: [&str; 3] = ["peer7", "peer30", "peer200"];
const SOON: Duration = Duration::from_secs(20);

/// What a client keeps of its list.
#[derive(Default)]
struct Device {
    known: BTreeMap<String, Conversation>,
    cursor: String,
}

impl Device {
    /// Takes a list in; answers how many conversations it told of.
    async fn list(&mut self, connection: &mut Connection) -> Result<usize> {
        let (mut after, mut cursor, mut told) = (String::new(), None, 0);
        loop {
            let page = ConversationsRequest {
                after,
                since: Some(self.cursor.clone()),
                ..ConversationsRequest::default()
            };
            let page = connection.request(page).await?;
            told += page.conversations.len();
            for conversation in page.conversations {
                ensure!(!conversation.head_unknown, "{conversation:?}");
                let id = conversation.conversation_id.clone();
                self.known.insert(id, conversation);
            }
            cursor.get_or_insert(page.cursor);
            if page.next_after.is_empty() {
                self.cursor = cursor.unwrap_or_default();
                return Ok(told);
            }
            after = page.next_after;
        }
    }

    /// Lists until these peers have said so much, which the list hears of a moment after their senders. Answers how many
    /// conversations it was told of.
    async fn until_heard(
        &mut self,
        connection: &mut Connection,
        user: &str,
        peers: &[&str],
        head_seq: u64,
    ) -> Result<usize> {
        let mut told = 0;
        until("the list has all of it", SOON, async || {
            told += self.list(connection).await?;
            for peer in peers {
                let id = parlance_tests::direct::between(user, peer)?;
                let head = self.known.get(&id).map(|known| known.head_seq);
                ensure!(head == Some(head_seq), "{id}: {head:?}");
            }
            Ok(())
        })
        .await?;
        Ok(told)
    }
}

/// Somebody whose list moves when the first shard is split.
fn upper_user() -> Result<(String, Slot)> {
    let app = AppId::new(APP)?;
    for number in 0.. {
        let name = format!("reader-{number}");
        let slot = Slot::of_user(&app, &UserId::new(name.clone())?);
        if (2048..4096).contains(&u32::from(slot.number())) {
            return Ok((name, slot));
        }
    }
    anyhow::bail!("no such user")
}

/// What gateways have asked nodes for so far.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Of shards' leaders.
    requests: f64,
    /// Conversations whose heads were asked for.
    heads: f64,
}

impl Asked {
    async fn so_far(cluster: &Cluster) -> Result<Self> {
        let mut asked = Asked {
            requests: 0.0,
            heads: 0.0,
        };
        for gateway in 1..=2 {
            let ops = cluster.address.gateway_ops(gateway);
            asked.requests += metric(ops, "parlance_gateway_link_batch_requests_sum", "").await?;
            asked.heads += metric(ops, "parlance_gateway_heads_total", "").await?;
        }
        Ok(asked)
    }

    async fn since(self, cluster: &Cluster) -> Result<Self> {
        let now = Self::so_far(cluster).await?;
        Ok(Self {
            requests: now.requests - self.requests,
            heads: now.heads - self.heads,
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_back_is_told_what_changed_and_nobody_is_asked_for_more() -> Result<()> {
    let spec = ClusterSpec {
        shards: SHARDS,
        ..ClusterSpec::default()
    };
    let mut cluster = Cluster::start(spec).await?;
    let told = story(&mut cluster).await;
    told.map_err(|error| error.context(cluster.tails()))
}

async fn story(cluster: &mut Cluster) -> Result<()> {
    let (user, home) = upper_user()?;
    let token = cluster.signer.token(&user);
    let gateways = cluster.gateway_addresses();
    let mut reader = Connection::logged_in(&gateways[0], &token).await?;
    for chat in 0..CHATS {
        reader.send(&format!("peer{chat}"), "m1", "first").await?;
    }
    let mut device = Device::default();
    until("the list is whole", SOON, async || {
        device.list(&mut reader).await?;
        ensure!(device.known.len() == CHATS, "{}", device.known.len());
        Ok(())
    })
    .await?;
    reader.close().await;

    comes_back(cluster, &user, &mut device).await?;
    let mut reader = Connection::logged_in(&gateways[1], &token).await?;
    moves_and_fails(cluster, (&user, home), &mut device, &mut reader).await?;
    is_whole(&user, &mut device, &mut reader).await
}

/// A login costs what happened while away, and not the list.
async fn comes_back(cluster: &Cluster, user: &str, device: &mut Device) -> Result<()> {
    let token = cluster.signer.token(user);
    let gateways = cluster.gateway_addresses();
    // Another device, which has nothing yet.
    let before = Asked::so_far(cluster).await?;
    let mut reader = Connection::logged_in(&gateways[1], &token).await?;
    Device::default().list(&mut reader).await?;
    let whole = before.since(cluster).await?;
    reader.close().await;

    say(cluster, user, &CHANGED, "m2").await?;
    let mut reader = Connection::logged_in(&gateways[0], &token).await?;
    let mut other = Device {
        cursor: device.cursor.clone(),
        ..Device::default()
    };
    other.until_heard(&mut reader, user, &CHANGED, 2).await?;
    reader.close().await;
    // By now the list has heard of all of it.
    let before = Asked::so_far(cluster).await?;
    let mut reader = Connection::logged_in(&gateways[1], &token).await?;
    let told = device.list(&mut reader).await?;
    let asked = before.since(cluster).await?;
    reader.close().await;
    eprintln!("{CHATS} conversations at a login: {whole:?}; {told} of them: {asked:?}");
    let few = CHANGED.len()..=FEW;
    ensure!(few.contains(&told), "{told} conversations were told");
    ensure!(few.contains(&(asked.heads as usize)), "{asked:?}");
    ensure!(
        asked.requests < whole.requests / 4.0,
        "{asked:?} of {whole:?}"
    );
    Ok(())
}

async fn moves_and_fails(
    cluster: &mut Cluster,
    (user, home): (&str, Slot),
    device: &mut Device,
    reader: &mut Connection,
) -> Result<()> {
    // The list moves to another shard, and its cursors are good there.
    cluster.begin_split(1).await?.done().await?;
    let status = cluster.any_admin().await?.status().await?;
    ensure!(owner(&status, home)?.shard == SHARDS + 1, "{status:?}");
    say(cluster, user, &CHANGED, "m3").await?;
    let told = device.until_heard(reader, user, &CHANGED, 3).await?;
    ensure!(told <= FEW, "{told} were told after the split");

    // Another node leads, which has to find out for itself what lists have.
    let leader = owner(&status, home)?.leader;
    cluster.node(leader)?.kill()?;
    say(cluster, user, &CHANGED, "m4").await?;
    let told = device.until_heard(reader, user, &CHANGED, 4).await?;
    ensure!(told <= FEW, "{told} were told by another leader");
    cluster.node(leader)?.start()
}

/// What the device knows is what the whole list says.
async fn is_whole(user: &str, device: &mut Device, reader: &mut Connection) -> Result<()> {
    let id = parlance_tests::direct::between(user, CHANGED[0])?;
    reader.mark_read(&id, 3).await?;
    until("the list has the cursor", SOON, async || {
        device.list(reader).await?;
        let known = device.known.get(&id);
        let read = known.map(|known| (known.read_seq, known.unread_count));
        ensure!(read == Some((3, 1)), "{read:?}");
        Ok(())
    })
    .await?;
    let mut all = Device::default();
    let told = all.list(reader).await?;
    ensure!(told == CHATS, "{told} of {CHATS}");
    for (id, conversation) in &all.known {
        let known = device.known.get(id).context("unknown")?;
        ensure!(
            known == conversation,
            "{known:?} is {conversation:?} by now"
        );
    }
    Ok(())
}

async fn say(cluster: &Cluster, to: &str, peers: &[&str], id: &str) -> Result<()> {
    let gateways = cluster.gateway_addresses();
    for peer in peers {
        let token = cluster.signer.token(peer);
        let mut peer = Connection::logged_in(&gateways[0], &token).await?;
        until("it is stored", SOON, async || {
            peer.send(to, id, "news").await?;
            Ok(())
        })
        .await?;
        peer.close().await;
    }
    Ok(())
}
