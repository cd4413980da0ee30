//! What a node keeps is for its own user: messages, and the secrets of all apps.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use parlance_tests::cluster::ClusterSpec;
use parlance_tests::logs::{self, Allowed};
use parlance_tests::story::tell;

use crate::SOON;

const OTHERS: u32 = 0o077;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_reads_a_data_directory_and_one_that_was_open_is_closed() -> Result<()> {
    tell(
        ClusterSpec::default(),
        Allowed::default(),
        async |cluster| {
            for node_id in 1..=3 {
                let open = open_to_others(&cluster.data_dir(node_id))?;
                ensure!(open.is_empty(), "others may use {open:?}");
            }
            let dir = cluster.data_dir(2);
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
            cluster.node(2)?.stop(SOON).await?;
            cluster.node(2)?.start()?;
            cluster.wait_node_ready(2, SOON).await?;
            let open = open_to_others(&dir)?;
            ensure!(open.is_empty(), "others may use {open:?}");
            let log = logs::read(cluster.node(2)?.log())?;
            ensure!(log.contains("it is closed to them now"), "not a word of it");
            cluster.wait_healthy(SOON).await
        },
    )
    .await
}

/// Files and folders that group or others may use in any way.
fn open_to_others(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(path) = folders.pop() {
        // It may be gone by now: databases drop files all the time.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.permissions().mode() & OTHERS != 0 {
            found.push(path.clone());
        }
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path)?;
            folders.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    Ok(found)
}
