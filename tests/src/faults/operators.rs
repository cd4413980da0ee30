//! Operators at work, whatever else happens: on an app of their own, whose users come and are thrown out, whose secrets come and
//! go, and which is disabled and enabled; on the list of denied certificates; and on the cluster, with what harms nobody. What
//! they were told is done holds in the end, everywhere: see [`outcome`].

mod outcome;
mod steps;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use parlance_proto::common::v1::AppLimits;
use parlance_proto::limits::MESSAGES_PER_SECOND_MAX;
use parlance_proto::tls::{Role, TlsFiles, TlsIdentity};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Stage;
use super::nodes::Nodes;
use crate::client::Connection;
use crate::token::Signer;

/// Theirs alone.
const APP: &str = "operated";
const STEP_EVERY: Duration = Duration::from_millis(30);
/// A gateway that does not answer must not keep the others from being used.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const HAND_OVER_WITHIN_MS: u32 = 1000;
const HOUR_MS: u64 = 3_600_000;
const SESSIONS_MAX: usize = 24;
/// Below these nobody could send.
const LIMITS: std::ops::Range<u32> = 1000..MESSAGES_PER_SECOND_MAX;

/// Operators who work until they are stopped.
pub(super) struct Operators {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Work>>,
}

/// What they have and what they were told.
struct Work {
    nodes: Nodes,
    gateways: Vec<String>,
    shards: u32,
    /// Of an operator who does nothing, and whom the others deny and allow.
    spare: TlsFiles,
    spare_serial: String,
    /// Those that may be good, the oldest first; the others are not, for sure.
    secrets: Vec<Secret>,
    retired: Vec<Secret>,
    /// Users who must stay out for an hour.
    banned: Vec<String>,
    sessions: Vec<Session>,
    /// What they were told is done, and how often.
    done: BTreeMap<&'static str, u64>,
}

#[derive(Clone)]
struct Secret {
    id: String,
    text: String,
}

struct Session {
    connection: Connection,
    user: String,
    secret_id: String,
    /// Why it must have ended.
    ends: Option<&'static str>,
}

impl Operators {
    pub(super) fn begin(stage: &mut Stage<'_>) -> Result<Self> {
        let cluster = &stage.cluster;
        let spare = cluster.authority.issue("spare", Role::Admin)?;
        let serial = TlsIdentity::load(&spare)?.certificate.serial;
        let work = Work {
            nodes: Nodes::of(stage),
            gateways: cluster.gateway_addresses(),
            shards: cluster.spec.shards,
            spare,
            spare_serial: serial.to_string(),
            secrets: Vec::new(),
            retired: Vec::new(),
            banned: Vec::new(),
            sessions: Vec::new(),
            done: BTreeMap::new(),
        };
        let rng = StdRng::seed_from_u64(stage.rng.random());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(work.go_on(rng, stopped));
        Ok(Self { stop, task })
    }

    /// Stops them and looks whether what they were told is so. Says how often they were told that something is done.
    pub(super) async fn end(self, stage: &mut Stage<'_>) -> Result<u64> {
        // If it has ended by itself, the task says why.
        let _ = self.stop.send(());
        let mut work = self.task.await??;
        for (what, times) in &work.done {
            stage.strikes.add(format!("operators: {what}"), *times);
        }
        let times = work.done.values().sum();
        work.holds(stage).await?;
        Ok(times)
    }
}

impl fmt::Display for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("operators' commands")
    }
}

fn limits(rng: &mut StdRng) -> AppLimits {
    AppLimits {
        session_messages_per_second: rng.random_range(LIMITS),
        user_messages_per_second: rng.random_range(LIMITS),
        app_messages_per_second: rng.random_range(LIMITS),
    }
}

impl Secret {
    fn signer(&self) -> Signer {
        Signer::new(APP, &self.text)
    }
}

impl From<parlance_proto::admin::v1::AppSecret> for Secret {
    fn from(secret: parlance_proto::admin::v1::AppSecret) -> Self {
        Self {
            id: secret.secret_id,
            text: secret.secret,
        }
    }
}
