//! What operators do, one thing after the other by chance, and what follows from each that is done.

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{
    ANSWER_WITHIN, APP, HAND_OVER_WITHIN_MS, HOUR_MS, SESSIONS_MAX, STEP_EVERY, Secret, Session,
    Work, limits,
};
use crate::client::Connection;

/// What may be done next.
const STEPS: [Step; 14] = [
    Step::Enter,
    Step::Enter,
    Step::Enter,
    Step::Kick,
    Step::Ban,
    Step::AddSecret,
    Step::RetireSecret,
    Step::Disable,
    Step::Enable,
    Step::Enable,
    Step::Limits,
    Step::Certificate,
    Step::Sessions,
    Step::Cluster,
];

#[derive(Debug, Clone, Copy)]
enum Step {
    Enter,
    Kick,
    Ban,
    AddSecret,
    RetireSecret,
    Disable,
    Enable,
    Limits,
    Certificate,
    Sessions,
    Cluster,
}

impl Work {
    pub(super) async fn go_on(
        mut self,
        mut rng: StdRng,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<Self> {
        while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            if self.secrets.is_empty() {
                self.look_at_secrets(&mut rng).await;
            } else {
                let step = STEPS.choose(&mut rng).copied();
                self.step(step.context("no step")?, &mut rng).await?;
            }
            sleep(STEP_EVERY).await;
        }
        Ok(self)
    }

    /// The app is made if it is not there, and its secrets are those that a node knows of.
    async fn look_at_secrets(&mut self, rng: &mut StdRng) {
        let app = self.nodes.ask_one(rng, async |admin| {
            admin.create_app(APP).await?;
            admin.app(APP).await
        });
        // Nobody answers: they look again.
        let Some(app) = app.await else { return };
        let retired: Vec<&str> = self
            .retired
            .iter()
            .map(|secret| secret.id.as_str())
            .collect();
        let known = app.secrets.into_iter();
        let known = known.filter(|secret| !retired.contains(&secret.secret_id.as_str()));
        self.secrets = known.map(Secret::from).collect();
    }

    async fn step(&mut self, step: Step, rng: &mut StdRng) -> Result<()> {
        let number = rng.random_range(0..1000_u32);
        let done = match step {
            Step::Enter => self.enter(rng).await,
            Step::Kick => self.kick(rng, None).await.then_some("user kick"),
            Step::Ban => self
                .kick(rng, Some(HOUR_MS))
                .await
                .then_some("user kick for an hour"),
            Step::AddSecret => {
                let added = self
                    .nodes
                    .ask_one(rng, async |admin| admin.add_secret(APP).await);
                let added = added.await;
                self.look_at_secrets(rng).await;
                added.map(|_| "app secret add")
            }
            Step::RetireSecret => self.retire(rng).await,
            Step::Disable => {
                let disabled = self
                    .nodes
                    .ask_one(rng, async |admin| admin.disable_app(APP, true).await);
                let disabled = disabled.await;
                if disabled.is_some() {
                    self.must_end("app_disabled", |_| true);
                }
                disabled.map(|()| "app disable")
            }
            Step::Enable => {
                let enabled = self
                    .nodes
                    .ask_one(rng, async |admin| admin.disable_app(APP, false).await);
                enabled.await.map(|()| "app enable")
            }
            Step::Limits => {
                let limits = limits(rng);
                let set = self
                    .nodes
                    .ask_one(rng, async |admin| admin.set_limits(APP, limits).await);
                set.await.map(|()| "app limits")
            }
            Step::Certificate => self.deny_or_allow(rng, number).await,
            Step::Sessions => self.list_sessions(rng).await?,
            Step::Cluster => self.cluster(rng, number).await,
        };
        if let Some(done) = done {
            *self.done.entry(done).or_default() += 1;
        }
        Ok(())
    }

    /// A user who was never there logs in.
    async fn enter(&mut self, rng: &mut StdRng) -> Option<&'static str> {
        let secret = self.secrets.choose(rng)?;
        let user = format!("user-{:08x}", rng.random::<u32>());
        let token = secret.signer().token(&user);
        let entered = Connection::logged_in(self.gateways.choose(rng)?, &token);
        let connection = timeout(ANSWER_WITHIN, entered).await.ok()?.ok()?;
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.retain(|session| session.ends.is_some());
        }
        self.sessions.push(Session {
            connection,
            user,
            secret_id: secret.id.clone(),
            ends: None,
        });
        Some("login")
    }

    async fn kick(&mut self, rng: &mut StdRng, for_ms: Option<u64>) -> bool {
        let there = self
            .sessions
            .iter()
            .filter(|session| session.ends.is_none());
        let users: Vec<&str> = there.map(|session| session.user.as_str()).collect();
        let Some(user) = users.choose(rng).map(|user| (*user).to_owned()) else {
            return false;
        };
        let kicked = self
            .nodes
            .ask_one(rng, async |admin| admin.kick(APP, &user, for_ms).await);
        if kicked.await.is_none() {
            return false;
        }
        self.must_end("kicked", |session| session.user == user);
        if for_ms.is_some() {
            self.banned.push(user);
        }
        true
    }

    async fn retire(&mut self, rng: &mut StdRng) -> Option<&'static str> {
        let [oldest, _, ..] = self.secrets.as_slice() else {
            return None;
        };
        let oldest = oldest.clone();
        let id = oldest.id.as_str();
        let retired = self
            .nodes
            .ask_one(rng, async |admin| admin.retire_secret(APP, id).await);
        retired.await?;
        self.must_end("token_invalid", |session| session.secret_id == id);
        self.secrets.retain(|secret| secret.id != id);
        self.retired.push(oldest);
        Some("app secret retire")
    }

    async fn deny_or_allow(&self, rng: &mut StdRng, number: u32) -> Option<&'static str> {
        let serial = &self.spare_serial;
        let changed = self.nodes.ask_one(rng, async |admin| match number % 2 {
            0 => {
                let denied = admin.deny_certificate(serial).await;
                denied.map(|()| "certificate deny")
            }
            _ => {
                let allowed = admin.allow_certificate(serial).await;
                allowed.map(|()| "certificate allow")
            }
        });
        changed.await
    }

    /// None of another app.
    async fn list_sessions(&self, rng: &mut StdRng) -> Result<Option<&'static str>> {
        let listed = self
            .nodes
            .ask_one(rng, async |admin| admin.sessions(APP).await);
        let listed = listed.await;
        let stranger = listed
            .iter()
            .flatten()
            .find(|session| session.app_id != APP);
        if let Some(stranger) = stranger {
            bail!("a list of the sessions of {APP} has {stranger:?}");
        }
        Ok(listed.map(|_| "session list"))
    }

    /// What harms nobody.
    async fn cluster(&mut self, rng: &mut StdRng, number: u32) -> Option<&'static str> {
        let shard = number % self.shards + 1;
        let asked = self.nodes.ask_one(rng, async |admin| match number % 6 {
            0 => admin.status().await.map(|_| "cluster status"),
            1 => admin.digest(shard).await.map(|_| "digest"),
            2 => {
                let app_id = format!("app-{number}");
                admin.create_app(&app_id).await.map(|_| "app create")
            }
            3 => admin.app_ids().await.map(|_| "app list"),
            4 => admin.upgrade_check().await.map(|()| "upgrade check"),
            _ => admin.drain(HAND_OVER_WITHIN_MS).await.map(|_| "drain"),
        });
        asked.await
    }

    fn must_end(&mut self, why: &'static str, which: impl Fn(&Session) -> bool) {
        for session in self.sessions.iter_mut().filter(|session| which(session)) {
            session.ends.get_or_insert(why);
        }
    }
}
