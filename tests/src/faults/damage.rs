//! Damaged files: the node that has them says so and stays out, or heals; nothing is deleted, nothing is lost, and
//! the others go on. Then it is replaced, as the error says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use super::Stage;
use crate::cluster::START_WITHIN;
use crate::logs;
use crate::wait::until;

/// How long a damaged node is watched for what it does.
const VERDICT_WITHIN: Duration = Duration::from_secs(30);
const MENDED_WITHIN: Duration = Duration::from_secs(90);

pub(super) async fn raft_log(stage: &mut Stage<'_>) -> Result<()> {
    let node_id = kill_one(stage).await?;
    let file = largest(
        &stage.cluster.data_dir(node_id).join("log"),
        &["log", "sst"],
    )?;
    let bit = stage.rng.random_range(0..8);
    flip_in_the_middle(&file, bit)?;
    stage.strike(format!("flipped bit of node {node_id}"));
    stage.history.note(format!(
        "node {node_id}: flipped a bit in the middle of {}",
        shown(&file)
    ));
    judge_and_mend(stage, node_id).await
}

pub(super) async fn state(stage: &mut Stage<'_>) -> Result<()> {
    let node_id = kill_one(stage).await?;
    let data = stage.cluster.data_dir(node_id);
    // Table files hold what snapshots brought and what was flushed; the manifest is always there.
    let file = largest(&data.join("state"), &["sst"]).or_else(|_| manifest(&data.join("state")))?;
    truncate(&file)?;
    stage.strike(format!("cut-off file of node {node_id}"));
    stage
        .history
        .note(format!("node {node_id}: cut {} in half", shown(&file)));
    judge_and_mend(stage, node_id).await
}

pub(super) async fn identity(stage: &mut Stage<'_>) -> Result<()> {
    let node_id = kill_one(stage).await?;
    let file = stage.cluster.data_dir(node_id).join("IDENTITY");
    let whole = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let before = table_bytes(&stage.cluster.data_dir(node_id));
    truncate(&file)?;
    stage.strike(format!("cut-off IDENTITY of node {node_id}"));
    stage
        .history
        .note(format!("node {node_id}: cut its IDENTITY in half"));
    if verdict(stage, node_id).await? == Verdict::Serves {
        bail!("node {node_id} serves with half an identity");
    }
    let after = table_bytes(&stage.cluster.data_dir(node_id));
    if after < before {
        bail!(
            "node {node_id} with half an identity deleted data: {before} bytes before, {after} after"
        );
    }
    stage
        .history
        .note(format!("node {node_id} refused; its IDENTITY is put back"));
    std::fs::write(&file, whole)?;
    stage.cluster.node(node_id)?.start()?;
    stage.cluster.wait_node_ready(node_id, START_WITHIN).await?;
    stage.cluster.wait_healthy(MENDED_WITHIN).await
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Refuses,
    Serves,
}

async fn kill_one(stage: &mut Stage<'_>) -> Result<u64> {
    let node_ids: Vec<u64> = stage.cluster.nodes.keys().copied().collect();
    let node_id = *node_ids.choose(stage.rng).context("no node")?;
    stage.history.note(format!("kill -9 of node {node_id}"));
    stage.cluster.node(node_id)?.kill()?;
    let name = stage.cluster.node(node_id)?.name.clone();
    stage.allowed.processes.push(name);
    Ok(node_id)
}

async fn judge_and_mend(stage: &mut Stage<'_>, node_id: u64) -> Result<()> {
    if verdict(stage, node_id).await? == Verdict::Serves {
        stage.history.note(format!("node {node_id} healed"));
        return stage.cluster.wait_healthy(MENDED_WITHIN).await;
    }
    stage
        .history
        .note(format!("node {node_id} refused; it is replaced"));
    let new = stage.cluster.replace_node(node_id).await?;
    stage.cluster.wait_node_ready(new, START_WITHIN).await?;
    stage.cluster.wait_healthy(MENDED_WITHIN).await
}

/// Starts the damaged node and waits for its end or for its readiness. An end must be an error that says what to do.
async fn verdict(stage: &mut Stage<'_>, node_id: u64) -> Result<Verdict> {
    let address = stage.cluster.address.node_ops(node_id);
    let node = stage.cluster.node(node_id)?;
    let said_before = logs::read(node.log())?.len();
    node.start()?;
    let ended = until(
        &format!("node {node_id} ends or serves"),
        VERDICT_WITHIN,
        async || {
            if let Some(status) = node.ended()? {
                return Ok(Some(status));
            }
            match crate::cluster::health::http_get(address, "/readyz").await? {
                (200, _) => Ok(None),
                (status, body) => bail!("/readyz answers {status}: {body}"),
            }
        },
    )
    .await?;
    let Some(status) = ended else {
        // A damage that is found while serving ends it later; give it the time to be found.
        sleep(Duration::from_secs(2)).await;
        return Ok(if node.ended()?.is_some() {
            Verdict::Refuses
        } else {
            Verdict::Serves
        });
    };
    let said = logs::read(node.log())?;
    let said = said.get(said_before..).unwrap_or_default();
    if status.success() || said.contains("panicked at") {
        bail!("node {node_id} with a damaged file ended with {status}:\n{said}");
    }
    if !said.contains("replace") {
        bail!(
            "node {node_id} refuses its damaged file and does not say what to do (`node replace`):\n{said}"
        );
    }
    Ok(Verdict::Refuses)
}

/// The largest file with one of these endings, below a directory.
fn largest(dir: &Path, endings: &[&str]) -> Result<PathBuf> {
    let fits = |path: &Path| {
        path.extension()
            .is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
    };
    let all = files(dir)
        .into_iter()
        .filter(|(path, size)| *size > 0 && fits(path));
    let largest = all.max_by_key(|(_, size)| *size);
    Ok(largest
        .with_context(|| format!("no {endings:?} file in {}", dir.display()))?
        .0)
}

fn manifest(dir: &Path) -> Result<PathBuf> {
    let named = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
    };
    let found = files(dir)
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| named(path));
    found.with_context(|| format!("no manifest in {}", dir.display()))
}

/// All files below a directory, with their sizes.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => all.extend(files(&path)),
            Ok(meta) => all.push((path, meta.len())),
            Err(_) => {}
        }
    }
    all
}

fn table_bytes(dir: &Path) -> u64 {
    let is_data = |path: &Path| {
        path.extension()
            .is_some_and(|ending| ending == "sst" || ending == "log")
    };
    files(dir)
        .iter()
        .filter(|(path, _)| is_data(path))
        .map(|(_, size)| size)
        .sum()
}

fn flip_in_the_middle(file: &Path, bit: u8) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    // A log file may end in zeros that were only reserved.
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let middle = bytes.get_mut(used / 2).context("an empty file")?;
    *middle ^= 1 << bit;
    std::fs::write(file, bytes)?;
    Ok(())
}

fn truncate(file: &Path) -> Result<()> {
    let opened = std::fs::OpenOptions::new().write(true).open(file)?;
    opened.set_len(opened.metadata()?.len() / 2)?;
    Ok(())
}

fn shown(file: &Path) -> String {
    let mut parts: Vec<_> = file
        .iter()
        .rev()
        .take(2)
        .map(|part| part.to_string_lossy())
        .collect();
    parts.reverse();
    parts.join("/")
}
