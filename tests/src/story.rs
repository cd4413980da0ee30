//! For tests that tell a story of their own: a cluster on which others chat all the while. Whatever the story does,
//! the others must not notice: at the end the checker looks at what they sent and received.

use anyhow::{Result, bail};

use crate::chaos::{self, ChaosSpec, ONE_CLUSTER};
use crate::check::{self, Gaps};
use crate::cluster::{Cluster, ClusterSpec};
use crate::history::{History, Run};
use crate::load::{Load, LoadSpec};
use crate::logs::{self, Allowed};
use crate::recovery;
use crate::report::{Counts, Report};

/// Few users, little load: witnesses, not a burden.
pub fn witnesses() -> LoadSpec {
    LoadSpec {
        users: 4,
        conversations: 4,
        rate: 40,
        ..LoadSpec::default()
    }
}

/// Tells a story on a cluster with witnesses, then checks the witnesses and the logs.
pub async fn tell(
    spec: ClusterSpec,
    allowed: Allowed,
    story: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    tell_under(witnesses(), spec, allowed, story)
        .await
        .map(drop)
}

/// As [`tell`], under any load; says how long shards were silent for it. None of its sends may be refused.
pub async fn tell_under(
    load: LoadSpec,
    spec: ClusterSpec,
    allowed: Allowed,
    story: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
) -> Result<Gaps> {
    let _turn = ONE_CLUSTER.lock().await;
    let history = History::default();
    let mut cluster = Cluster::start(spec).await?;
    let mut load = Load::start(
        &load,
        &cluster.gateway_addresses(),
        &cluster.signer,
        &history,
    )
    .await?;
    let told = story(&mut cluster).await;
    told.map_err(|error| error.context(cluster.tails()))?;
    cluster.check_all_run()?;
    let closing = recovery::settle(&mut cluster, &mut load, &history).await;
    let closing = closing.map_err(|error| error.context(cluster.tails()))?;
    let run = Run {
        entries: history.entries(),
        closing,
    };
    let violations = check::all(&run);
    if !violations.is_empty() {
        bail!("the witnesses were harmed: {violations:#?}");
    }
    let counts = Counts::of(&run);
    if counts.refused > 0 {
        bail!("{} sends of the witnesses were refused", counts.refused);
    }
    let findings = logs::unexpected(&cluster, &allowed)?;
    if !findings.is_empty() {
        bail!("unexpected in the logs:\n{}", findings.join("\n"));
    }
    Ok(check::gaps(&run))
}

/// A chaos run that must pass; the report is the error.
pub async fn must_pass(spec: ChaosSpec) -> Result<Report> {
    let report = chaos::run(&spec).await?;
    if !report.passed() {
        bail!("{report}");
    }
    eprint!("{report}");
    Ok(report)
}
