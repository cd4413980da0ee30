//! `parlance cluster upgrade`: after new programs run on all nodes, what only they can do is switched on.

use parlance_proto::admin::v1::UpgradeClusterRequest;
use serde::Serialize;

use crate::admin::Admin;
use crate::commands::Session;

#[derive(Serialize)]
struct Upgraded {
    level_before: u32,
    level: u32,
    done: bool,
}

pub(super) async fn run(session: &Session, check: bool) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&session.resolve()?.context).await?;
    let request = UpgradeClusterRequest { check_only: check };
    let answer = admin.api.upgrade_cluster(request).await;
    let answer = answer
        .map_err(|status| admin.failed("upgrade the cluster", &status))?
        .into_inner();
    let upgraded = Upgraded {
        level_before: answer.level_before,
        level: answer.level,
        done: !check,
    };
    session
        .output
        .print(&upgraded, |_, upgraded| text(upgraded))
}

fn text(upgraded: &Upgraded) -> String {
    let (before, level) = (upgraded.level_before, upgraded.level);
    if level == before {
        format!("feature level {level} is the highest that all nodes speak")
    } else if upgraded.done {
        format!("feature level {level}, was {before}")
    } else {
        format!("feature level {before} can be raised to {level}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_what_would_happen_and_not_that_it_did() {
        let said = |level, done| {
            text(&Upgraded {
                level_before: 1,
                level,
                done,
            })
        };
        assert_eq!(said(2, true), "feature level 2, was 1");
        assert_eq!(said(2, false), "feature level 1 can be raised to 2");
        assert!(said(1, true).contains("is the highest"));
    }
}
