//! Nodes that operators ask, whether they answer or not.

use std::time::Duration;

use anyhow::Result;
use parlance_proto::tls::TlsFiles;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::timeout;

use super::Stage;
use crate::admin::Admin;

/// A node that does not answer must not keep the others from being asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Those that a cluster had.
pub(super) struct Nodes {
    addresses: Vec<String>,
    operator: TlsFiles,
}

impl Nodes {
    pub(super) fn of(stage: &Stage<'_>) -> Self {
        let cluster = &stage.cluster;
        let addresses = cluster
            .nodes
            .keys()
            .map(|id| cluster.address.link(*id).to_string());
        Self {
            addresses: addresses.collect(),
            operator: cluster.operator.clone(),
        }
    }

    pub(super) fn all(&self) -> &[String] {
        &self.addresses
    }

    /// None: it did not answer, or not in time, or with an error.
    pub(super) async fn ask<T>(
        &self,
        node: &str,
        question: impl AsyncFnOnce(&mut Admin) -> Result<T>,
    ) -> Option<T> {
        let asked = async {
            let mut admin = Admin::connect(node, &self.operator).await?;
            question(&mut admin).await
        };
        timeout(ANSWER_WITHIN, asked).await.ok()?.ok()
    }

    /// As [`Nodes::ask`], of any of them.
    pub(super) async fn ask_one<T>(
        &self,
        rng: &mut StdRng,
        question: impl AsyncFnOnce(&mut Admin) -> Result<T>,
    ) -> Option<T> {
        self.ask(self.addresses.choose(rng)?, question).await
    }
}
