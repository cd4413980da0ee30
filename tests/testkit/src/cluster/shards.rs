//! Who owns which slots, and splits while a test has its hands free for something else.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use parlance_proto::admin::v1::{GetClusterStatusResponse, ShardStatus, SplitShardResponse};
use parlance_proto::ids::{AppId, ConversationId};
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::tls::TlsFiles;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{APP, Cluster};
use crate::admin::Admin;

/// A split must be done within this, whatever happens to nodes meanwhile.
const SPLIT_WITHIN: Duration = Duration::from_secs(90);
/// A node that is frozen must not keep the next from being asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Between two nodes that are asked.
const PAUSE: Duration = Duration::from_millis(100);

/// The shard that owns a slot.
pub fn owner(status: &GetClusterStatusResponse, slot: Slot) -> Result<&ShardStatus> {
    let slot = u32::from(slot.number());
    // The child of a split under way has its slots in the map already, and does not own them yet.
    let owns = |shard: &&ShardStatus| {
        shard.health != "splitting" && (shard.first_slot..=shard.last_slot).contains(&slot)
    };
    let mut shards = status.shards.iter();
    shards
        .find(owns)
        .with_context(|| format!("no shard owns slot {slot}: {status:?}"))
}

/// Where a conversation of the tests' app lives.
pub fn slot_of(conversation: &str) -> Result<Slot> {
    let conversation = ConversationId::parse(conversation)?;
    Ok(Slot::of_conversation(&AppId::new(APP)?, &conversation))
}

/// A split under way. It goes on when this is dropped.
pub struct Splitting {
    task: JoinHandle<Result<SplitShardResponse>>,
}

impl Splitting {
    /// Waits for its end.
    pub async fn done(self) -> Result<SplitShardResponse> {
        self.task.await?
    }
}

impl Cluster {
    /// Begins to split a shard in the middle: any node that answers is asked, again and again. From here on the cluster
    /// is whole only with the child.
    pub async fn begin_split(&mut self, shard: u32) -> Result<Splitting> {
        let status = self.any_admin().await?.status().await?;
        let found = status.shards.iter().find(|found| found.shard == shard);
        let found = found.with_context(|| format!("no shard {shard}"))?;
        let range = SlotRange::new(found.first_slot, found.last_slot);
        let middle = range.and_then(SlotRange::middle).context("too few slots")?;
        let nodes = self.nodes.keys().map(|id| self.address.link(*id));
        let addresses: Vec<String> = nodes.map(|address| address.to_string()).collect();
        self.spec.shards += 1;
        let asking = ask_until_split(addresses, self.operator.clone(), shard, middle);
        Ok(Splitting {
            task: tokio::spawn(asking),
        })
    }
}

async fn ask_until_split(
    nodes: Vec<String>,
    operator: TlsFiles,
    shard: u32,
    first_slot: Slot,
) -> Result<SplitShardResponse> {
    let deadline = Instant::now() + SPLIT_WITHIN;
    let mut nodes = nodes.iter().cycle();
    loop {
        let node = nodes.next().context("no node")?;
        let ask = async {
            let mut admin = Admin::connect(node, &operator).await?;
            // The same slot each time: what was done already is not done again.
            admin.split(shard, first_slot).await
        };
        let error = match timeout(ANSWER_WITHIN, ask).await {
            Ok(Ok(split)) => return Ok(split),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("no answer within {ANSWER_WITHIN:?}"),
        };
        if Instant::now() > deadline {
            return Err(error.context(format!("shard {shard} is not split, says {node}")));
        }
        sleep(PAUSE).await;
    }
}
