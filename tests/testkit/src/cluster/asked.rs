//! Nodes that are asked one after the other, while a test has its hands free, until one does what is wanted.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use parlance_proto::tls::TlsFiles;
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;
use crate::admin::Admin;

/// A node that is frozen must not keep the next from being asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Between two nodes that are asked.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Asked {
    nodes: Vec<String>,
    operator: TlsFiles,
}

impl Asked {
    /// All nodes of the cluster as it is now, or all but one.
    pub(super) fn all_but(cluster: &Cluster, node_id: Option<u64>) -> Self {
        let ids = cluster.nodes.keys().filter(|id| Some(**id) != node_id);
        Self {
            nodes: ids
                .map(|id| cluster.address.link(*id).to_string())
                .collect(),
            operator: cluster.operator.clone(),
        }
    }

    /// Whatever happens to nodes meanwhile: the first answer that is no error.
    pub(super) async fn until_done<T, F: Future<Output = Result<T>> + Send>(
        self,
        within: Duration,
        question: impl Fn(Admin) -> F + Send,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        let mut nodes = self.nodes.iter().cycle();
        loop {
            let node = nodes.next().context("no node")?;
            let ask = async {
                let admin = Admin::connect(node, &self.operator).await?;
                question(admin).await
            };
            let error = match timeout(ANSWER_WITHIN, ask).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => anyhow!("no answer within {ANSWER_WITHIN:?}"),
            };
            if Instant::now() > deadline {
                return Err(error.context(format!("not within {within:?}, says {node}")));
            }
            sleep(PAUSE).await;
        }
    }
}
