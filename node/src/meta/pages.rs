//! An update of the cluster's state in messages that a link carries, however many apps and kicks there are.

use std::collections::VecDeque;

use parlance_proto::link::v1::ClusterUpdate;
use prost::Message;

/// Bytes of the apps and kicks in one message, soft. What else is in an update is bounded by the nodes and shards of a cluster.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// The messages of an update, at least one; only the last says that there are no more.
pub(super) fn pages(mut update: ClusterUpdate) -> VecDeque<ClusterUpdate> {
    let mut apps = std::mem::take(&mut update.apps).into_iter();
    let mut kicks = std::mem::take(&mut update.kicks).into_iter();
    let mut pages = VecDeque::new();
    loop {
        let mut room = PAGE_BYTES_MAX;
        let apps_of_page = fill(&mut apps, &mut room);
        let kicks_of_page = fill(&mut kicks, &mut room);
        if apps.len() + kicks.len() == 0 {
            update.apps = apps_of_page;
            update.kicks = kicks_of_page;
            pages.push_back(update);
            return pages;
        }
        pages.push_back(ClusterUpdate {
            cluster_id: update.cluster_id.clone(),
            apps: apps_of_page,
            kicks: kicks_of_page,
            more: true,
            ..ClusterUpdate::default()
        });
    }
}

fn fill<R: Message>(rows: &mut impl Iterator<Item = R>, room: &mut usize) -> Vec<R> {
    let mut page = Vec::new();
    while *room > 0
        && let Some(row) = rows.next()
    {
        *room = room.saturating_sub(row.encoded_len());
        page.push(row);
    }
    page
}

#[cfg(test)]
mod tests {
    use parlance_proto::common::v1::{AppLimits, TokenPolicy};
    use parlance_proto::limits::{
        APP_ALIAS_BYTES_MAX, APP_ID_BYTES_MAX, LINK_FRAME_BYTES_MAX, SHARD_COUNT_MAX,
        USER_ID_BYTES_MAX,
    };
    use parlance_proto::link::v1::{
        App, AppSecret, DeniedCertificates, Kick, Node, ShardLeader, ShardRoute,
    };

    use super::super::apply::apps::{ALIASES_MAX, APPS_MAX, KICKS_MAX, SECRETS_MAX};
    use super::super::apply::certificates::DENIED_MAX;
    use super::*;

    const NODES: usize = 1000;
    const FORMATS: usize = 4;

    /// Everything of which a cluster has a bound is there as often and as long as it may be.
    fn largest() -> ClusterUpdate {
        let secret = AppSecret {
            secret_id: "s".repeat(8),
            secret: "s".repeat(256),
            format: i32::MAX,
        };
        let app = |n| App {
            app_id: format!("{n:0>APP_ID_BYTES_MAX$}"),
            secrets: vec![secret.clone(); FORMATS * SECRETS_MAX],
            disabled: true,
            limits: Some(AppLimits {
                session_messages_per_second: u32::MAX,
                user_messages_per_second: u32::MAX,
                app_messages_per_second: u32::MAX,
            }),
            token_life_max_ms: u64::MAX,
            aliases: vec!["a".repeat(APP_ALIAS_BYTES_MAX); ALIASES_MAX],
            token_policy: Some(TokenPolicy {
                token04_gcm_only: true,
                alivc_nonce_prefix: true,
            }),
            token_life_ever_ms: u64::MAX,
        };
        let kick = |n| Kick {
            app_id: "a".repeat(APP_ID_BYTES_MAX),
            user_id: format!("{n:0>USER_ID_BYTES_MAX$}"),
            kicked_ms: i64::MAX,
            until_ms: i64::MAX,
            reason: "r".repeat(128),
        };
        let node = Node {
            node_id: u64::MAX,
            link_address: "a".repeat(256),
        };
        let route = ShardRoute {
            shard: u32::MAX,
            first_slot: u32::MAX,
            last_slot: u32::MAX,
            epoch: u64::MAX,
        };
        let leader = ShardLeader {
            shard: u32::MAX,
            node_id: u64::MAX,
            term: u64::MAX,
        };
        let shards = SHARD_COUNT_MAX as usize;
        ClusterUpdate {
            cluster_id: "c".into(),
            map_version: 7,
            whole: true,
            nodes: vec![node; NODES],
            shards: vec![route; shards],
            leaders: vec![leader; shards],
            apps: (0..APPS_MAX).map(app).collect(),
            feature_level: 1,
            kicks: (0..KICKS_MAX).map(kick).collect(),
            denied: Some(DeniedCertificates {
                serials: vec![vec![1; 20].into(); DENIED_MAX],
            }),
            more: false,
        }
    }

    #[test]
    fn the_largest_state_goes_in_messages_that_a_link_carries() {
        let whole = largest();
        assert!(whole.encoded_len() > LINK_FRAME_BYTES_MAX * 3 / 4);
        let mut pages = pages(whole.clone());
        let far_below = LINK_FRAME_BYTES_MAX / 8;
        assert!(pages.iter().all(|page| page.encoded_len() < far_below));
        let mut joined = pages.pop_back().unwrap();
        assert!(!joined.more && !pages.is_empty());
        let (mut apps, mut kicks) = (Vec::new(), Vec::new());
        for page in pages {
            assert!(page.more && !page.whole && page.map_version == 0);
            apps.extend(page.apps);
            kicks.extend(page.kicks);
        }
        apps.append(&mut joined.apps);
        kicks.append(&mut joined.kicks);
        (joined.apps, joined.kicks) = (apps, kicks);
        assert_eq!(joined, whole);
    }

    #[test]
    fn a_short_update_is_one_message() {
        let update = ClusterUpdate {
            map_version: 7,
            ..ClusterUpdate::default()
        };
        assert_eq!(pages(update.clone()), [update]);
    }
}
