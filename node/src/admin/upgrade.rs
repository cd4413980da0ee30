//! Raising the feature level to what all nodes can speak.

use parlance_proto::admin::v1::UpgradeClusterResponse;
use parlance_proto::common::v1::{Error, ErrorCode, VersionRange};
use parlance_proto::ids::NodeId;
use parlance_proto::store::v1::{MapNode, RaiseFeatureLevel, meta_command};

use crate::cluster::{ClusterView, Runtime, common_level};
use crate::meta::MetaState;

/// Raises the level, or only says to what it would be raised.
pub(super) async fn upgrade(
    runtime: &Runtime,
    check_only: bool,
) -> Result<UpgradeClusterResponse, Error> {
    let view = runtime.view();
    let state = view.state();
    let map = state.map().ok_or_else(|| {
        let message = "there is no cluster map yet";
        Error::new(ErrorCode::Unavailable, message)
    })?;
    let level_before = map.feature_level;
    let level = possible(&levels_of_members(view, &state), level_before)?;
    if level > level_before && !check_only {
        let raise = RaiseFeatureLevel { level };
        let body = meta_command::Body::RaiseFeatureLevel(raise);
        runtime.meta_client().propose(body).await?;
    }
    Ok(UpgradeClusterResponse {
        level_before,
        level,
    })
}

/// What each member can speak; none of one that was not heard.
pub(super) fn levels_of_members(
    view: &ClusterView,
    state: &MetaState,
) -> Vec<(NodeId, Option<VersionRange>)> {
    let members = state.members().map(MapNode::id);
    members
        .map(|id| (id, view.heard.of(id).and_then(|heard| heard.levels)))
        .collect()
}

/// The highest level that all can speak. Refuses, and names them, if nodes were not heard or hold the cluster back.
fn possible(members: &[(NodeId, Option<VersionRange>)], now: u32) -> Result<u32, Error> {
    let refuse = |message: String| Err(Error::new(ErrorCode::PreconditionFailed, message));
    let named = |wanted: &dyn Fn(Option<VersionRange>) -> bool| -> Vec<String> {
        let nodes = members.iter().filter(|(_, range)| wanted(*range));
        nodes.map(|(id, _)| id.to_string()).collect()
    };
    let silent = named(&|range| range.is_none());
    if !silent.is_empty() {
        let silent = silent.join(", ");
        return refuse(format!(
            "nodes {silent} have not reported, so their feature levels are unknown: start or replace them first"
        ));
    }
    let ranges = members.iter().filter_map(|(_, range)| *range);
    let highest = ranges.clone().map(|range| range.max).max().unwrap_or(now);
    let level = common_level(ranges).unwrap_or(now).max(now);
    if level == now && highest > now {
        let old = named(&|range| range.is_some_and(|range| range.max <= now)).join(", ");
        return refuse(format!(
            "nodes {old} cannot speak a level above {now}, others speak {highest}: upgrade them first"
        ));
    }
    Ok(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn range(max: u32) -> Option<VersionRange> {
        Some(VersionRange { min: 1, max })
    }

    #[test]
    fn the_level_rises_to_what_all_nodes_speak() {
        assert_eq!(possible(&[(ONE, range(3)), (TWO, range(2))], 1).unwrap(), 2);
        assert_eq!(possible(&[(ONE, range(1)), (TWO, range(1))], 1).unwrap(), 1);
    }

    #[test]
    fn nodes_that_hold_it_back_are_named() {
        let refused = |members: &[_]| possible(members, 1).unwrap_err().message;
        assert!(
            refused(&[(ONE, range(2)), (NodeId(7), None)]).contains("nodes 7 have not reported")
        );
        let text = refused(&[
            (ONE, range(2)),
            (NodeId(5), range(1)),
            (NodeId(6), range(1)),
        ]);
        assert!(text.contains("nodes 5, 6 cannot speak"), "{text}");
    }
}
