//! A gateway that lost its link to a leader for so long that nobody remembers, and finds another leader when it is back.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::START_WITHIN;
use crate::cluster::links::{Direction, Held};

/// Longer than a gateway watches a leader that it has left.
const LOST: Duration = Duration::from_secs(18);
const DEAD: Duration = Duration::from_secs(2);
const HEALED_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn lost_and_leader_killed(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.cluster.busiest_leader().await?;
    let number = stage.rng.random_range(0..stage.cluster.gateways.len());
    let gateway = stage.cluster.gateways[number].pid();
    stage.history.note(format!(
        "gateway {} and node {leader} do not hear each other",
        number + 1
    ));
    let rules = [Direction::ToNode, Direction::ToGateway].map(|way| (leader, gateway, way));
    let before = stage.cluster.links.struck(&rules);
    for (node, gateway, direction) in rules {
        let links = &stage.cluster.links;
        links.hold(node, gateway, direction, Held::Cut);
    }
    sleep(LOST).await;
    stage.history.note(format!("kill -9 of node {leader}"));
    stage.cluster.node(leader)?.kill()?;
    let struck = stage.cluster.links.struck(&rules) - before;
    let on = format!("bytes between gateway {} and node {leader}", number + 1);
    stage.strikes.add(on, struck);
    stage.cluster.links.heal();
    sleep(DEAD).await;
    stage.cluster.node(leader)?.start()?;
    stage.strike(format!("kill of node {leader}"));
    stage.cluster.wait_node_ready(leader, START_WITHIN).await?;
    stage.heal(HEALED_WITHIN).await
}
