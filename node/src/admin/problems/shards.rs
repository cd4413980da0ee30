//! Shards that cannot serve, or have not the replicas that they should have.

use std::collections::BTreeMap;

use parlance_proto::admin::v1::{Problem, ShardStatus};

use super::{Seen, problem};

/// Shards that are named one by one; of more there is the number.
const NAMED_MAX: usize = 8;

impl Seen<'_> {
    fn all_shards(&self) -> impl Iterator<Item = &ShardStatus> {
        self.status.meta.iter().chain(&self.status.shards)
    }

    fn numbers(&self, fits: impl Fn(&ShardStatus) -> bool) -> Vec<u32> {
        let shards = self.all_shards().filter(|shard| fits(shard));
        shards.map(|shard| shard.shard).collect()
    }

    fn has_majority(&self, shard: &ShardStatus) -> bool {
        let there = shard.wanted.iter().filter(|id| self.is_reachable(**id));
        there.count() * 2 > shard.wanted.len()
    }

    pub(super) fn without_leader(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let lost = self.numbers(|shard| !self.has_majority(shard));
        if !lost.is_empty() {
            found.push(problem(
                "no_majority",
                format!(
                    "{}: fewer than a majority of the replicas' nodes are heard",
                    named(&lost)
                ),
                "bring the nodes back: nothing can be stored there until then",
            ));
        }
        let leaderless = self.numbers(|shard| {
            // A child has no leader until its parent is split.
            self.has_majority(shard)
                && shard.health != "splitting"
                && !self.is_reachable(shard.leader)
        });
        if !leaderless.is_empty() {
            found.push(problem(
                "no_leader",
                format!("{}: no leader is known", named(&leaderless)),
                "an election takes about a second; if it lasts, look for slow disks and a bad network in the nodes' logs",
            ));
        }
        found
    }

    /// One problem for each node and reason.
    pub(super) fn stopped_replicas(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for node in &self.status.nodes {
            let mut reasons: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
            for stopped in &node.stopped {
                let shards = reasons.entry(&stopped.reason).or_default();
                shards.push(stopped.shard);
            }
            for (reason, shards) in reasons {
                found.push(problem(
                    "replica_stopped",
                    format!(
                        "a replica has stopped on node {}, {}: {reason}",
                        node.node_id,
                        named(&shards)
                    ),
                    format!(
                        "mend what the reason says, then restart node {}; if its disk is lost: parlance node replace",
                        node.node_id
                    ),
                ));
            }
        }
        found
    }

    /// Of nodes that are heard: one that is not has a problem of its own.
    pub(super) fn behind(&self) -> Vec<Problem> {
        let mut nodes: BTreeMap<u64, (Vec<u32>, u64)> = BTreeMap::new();
        for shard in self.all_shards() {
            let behind = shard.behind.iter();
            for behind in behind.filter(|behind| self.is_reachable(behind.node_id)) {
                let (shards, most) = nodes.entry(behind.node_id).or_default();
                shards.push(shard.shard);
                *most = behind.entries.max(*most);
            }
        }
        let text = |(node, (shards, most)): (u64, (Vec<u32>, u64))| {
            problem(
                "replica_behind",
                format!(
                    "node {node} is behind the leaders of {}: it lacks up to {most} entries",
                    named(&shards)
                ),
                "it catches up by itself; if the number does not fall, look at its disk and network",
            )
        };
        nodes.into_iter().map(text).collect()
    }

    pub(super) fn not_as_wanted(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for (health, what, remedy) in [
            (
                "moving",
                "the voters are not those that the cluster map wants",
                "they are being moved; if it lasts, see parlance cluster status --shards and the leader's log",
            ),
            (
                "splitting",
                "a split is under way",
                "it ends by itself; parlance cluster split with the same --at asks again",
            ),
        ] {
            let shards = self.numbers(|shard| shard.health == health);
            if !shards.is_empty() {
                found.push(problem(
                    health,
                    format!("{}: {what}", named(&shards)),
                    remedy,
                ));
            }
        }
        found
    }
}

/// `the meta shard and shards 1, 2`, and not more of them than can be read.
fn named(shards: &[u32]) -> String {
    let meta = shards.contains(&0);
    let others: Vec<String> = (shards.iter().filter(|number| **number != 0))
        .map(u32::to_string)
        .collect();
    let noun = if others.len() == 1 { "shard" } else { "shards" };
    let more = others.len().saturating_sub(NAMED_MAX);
    let mut text = others[..others.len() - more].join(", ");
    if more > 0 {
        text = format!("{text} and {more} more");
    }
    match (meta, others.is_empty()) {
        (true, true) => "the meta shard".to_owned(),
        (true, false) => format!("the meta shard and {noun} {text}"),
        (false, _) => format!("{noun} {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn many_shards_are_counted() {
        assert_eq!(named(&[0]), "the meta shard");
        assert_eq!(named(&[4]), "shard 4");
        let many: Vec<u32> = (1..=4096).collect();
        assert_eq!(named(&many), "shards 1, 2, 3, 4, 5, 6, 7, 8 and 4088 more");
    }
}
