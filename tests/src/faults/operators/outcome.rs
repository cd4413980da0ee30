//! What operators were told is done, looked at once everything else is over: on every gateway and every node. Then each command
//! once more, which must hold everywhere too.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;

use super::super::Stage;
use super::{APP, HOUR_MS, Secret, Session, Work, limits};
use crate::admin::Admin;
use crate::client::CallError;
use crate::client::Connection;
use crate::wait::until;

/// Nodes may still have to elect, gateways to find them, and commands that nobody waits for any more may still come through.
const HOLDS_WITHIN: Duration = Duration::from_secs(60);
const OK: &str = "ok";

impl Work {
    pub(super) async fn holds(&mut self, stage: &mut Stage<'_>) -> Result<()> {
        if self.done.is_empty() {
            return Ok(());
        }
        let sessions = std::mem::take(&mut self.sessions);
        let must_end = |session: &Session| session.ends.is_some();
        let (over, mut others): (Vec<_>, Vec<_>) = sessions.into_iter().partition(must_end);
        have_ended(over, "what operators were told is done").await?;

        let good = self.good_secret(stage).await?;
        for secret in &self.retired {
            let token = secret.signer().token("late");
            self.enabled(stage, &token, "token_invalid").await?;
        }
        for user in &self.banned {
            let token = good.signer().token(user);
            self.enabled(stage, &token, "kicked").await?;
        }

        let number: u32 = stage.rng.random();
        let (kicked, stays) = (
            format!("kicked-{number:08x}"),
            format!("stays-{number:08x}"),
        );
        let sessions = self.on_all_gateways(stage, &good, &kicked).await?;
        let token = good.signer().token(&kicked);
        let kick = async |admin: &mut Admin| admin.kick(APP, &kicked, Some(HOUR_MS)).await;
        self.comes(stage, "a user is banned", kick, &token, "kicked")
            .await?;
        have_ended(sessions, "a ban").await?;

        others.extend(self.on_all_gateways(stage, &good, &stays).await?);
        let token = good.signer().token(&stays);
        let disable = async |admin: &mut Admin| admin.disable_app(APP, true).await;
        self.comes(
            stage,
            "the app is disabled",
            disable,
            &token,
            "app_disabled",
        )
        .await?;
        have_ended(others, "a disabled app").await?;
        self.enabled(stage, &token, OK).await?;

        self.secret_retired(stage).await?;
        let limits = limits(stage.rng);
        until("the app has limits", HOLDS_WITHIN, async || {
            let mut admin = stage.cluster.any_admin().await?;
            admin.set_limits(APP, limits).await?;
            ensure!(admin.app(APP).await?.limits == Some(limits), "others");
            Ok(())
        })
        .await?;
        self.certificate(stage).await
    }

    /// With the app enabled, every gateway answers a login so.
    async fn enabled(&self, stage: &Stage<'_>, token: &str, expected: &str) -> Result<()> {
        let enable = async |admin: &mut Admin| admin.disable_app(APP, false).await;
        self.comes(stage, "the app is enabled", enable, token, expected)
            .await
    }

    /// What an operator does comes to this on every gateway: a login is answered so.
    async fn comes(
        &self,
        stage: &Stage<'_>,
        what: &str,
        mut does: impl AsyncFnMut(&mut Admin) -> Result<()>,
        token: &str,
        expected: &str,
    ) -> Result<()> {
        until(what, HOLDS_WITHIN, async || {
            does(&mut stage.cluster.any_admin().await?).await?;
            for gateway in &self.gateways {
                let answer = answer(gateway, token).await?;
                ensure!(
                    answer == expected,
                    "{gateway} answers {answer}, not {expected}"
                );
            }
            Ok(())
        })
        .await
    }

    /// The app's newest, once every gateway takes it.
    async fn good_secret(&self, stage: &Stage<'_>) -> Result<Secret> {
        until("the app has a good secret", HOLDS_WITHIN, async || {
            let mut admin = stage.cluster.any_admin().await?;
            admin.disable_app(APP, false).await?;
            let newest = admin.app(APP).await?.secrets.pop();
            let newest = Secret::from(newest.context("an app without a secret")?);
            let token = newest.signer().token("first");
            for gateway in &self.gateways {
                let answer = answer(gateway, &token).await?;
                ensure!(answer == OK, "{gateway} answers {answer}");
            }
            Ok(newest)
        })
        .await
    }

    async fn secret_retired(&self, stage: &Stage<'_>) -> Result<()> {
        let secrets = until("the app has two secrets", HOLDS_WITHIN, async || {
            let mut admin = stage.cluster.any_admin().await?;
            if admin.app(APP).await?.secrets.len() < 2 {
                admin.add_secret(APP).await?;
            }
            let secrets = admin.app(APP).await?.secrets;
            ensure!(secrets.len() == 2, "it has {}", secrets.len());
            Ok(secrets)
        });
        let secrets = secrets.await?.into_iter().map(Secret::from);
        let secrets: Vec<Secret> = secrets.collect();
        let [old, new] = secrets.as_slice() else {
            bail!("not two secrets");
        };
        for secret in &secrets {
            let token = secret.signer().token("both");
            self.enabled(stage, &token, OK).await?;
        }
        let token = old.signer().token("both");
        let retire = async |admin: &mut Admin| {
            let retired = admin.retire_secret(APP, &old.id).await;
            // It may have been before, without an answer.
            let app = admin.app(APP).await?;
            let gone = app.secrets.iter().all(|secret| secret.secret_id != old.id);
            if gone { Ok(()) } else { retired }
        };
        self.comes(
            stage,
            "a secret is retired",
            retire,
            &token,
            "token_invalid",
        )
        .await?;
        let token = new.signer().token("both");
        self.enabled(stage, &token, OK).await
    }

    /// Denied and allowed; every node obeys.
    async fn certificate(&self, stage: &Stage<'_>) -> Result<()> {
        for denied in [true, false] {
            until("every node obeys", HOLDS_WITHIN, async || {
                let mut admin = stage.cluster.any_admin().await?;
                if denied {
                    admin.deny_certificate(&self.spare_serial).await?;
                } else {
                    // It is an error if it is allowed already.
                    let _ = admin.allow_certificate(&self.spare_serial).await;
                }
                for node in stage.cluster.nodes.keys() {
                    let address = stage.cluster.address.link(*node).to_string();
                    let asked = async {
                        let mut admin = Admin::connect(&address, &self.spare).await?;
                        admin.status().await
                    };
                    let served = asked.await.is_ok();
                    ensure!(
                        served != denied,
                        "node {node}: served {served}, denied {denied}"
                    );
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// A session on each gateway.
    async fn on_all_gateways(
        &self,
        stage: &Stage<'_>,
        secret: &Secret,
        user: &str,
    ) -> Result<Vec<Session>> {
        let token = secret.signer().token(user);
        self.enabled(stage, &token, OK).await?;
        let mut sessions = Vec::new();
        for gateway in &self.gateways {
            let entered = until("a user logs in", HOLDS_WITHIN, async || {
                Connection::logged_in(gateway, &token).await
            });
            sessions.push(Session {
                connection: entered.await?,
                user: user.to_owned(),
                secret_id: secret.id.clone(),
                ends: None,
            });
        }
        Ok(sessions)
    }
}

/// How a gateway answers a login.
async fn answer(gateway: &str, token: &str) -> Result<String> {
    let mut connection = Connection::open(gateway).await?;
    Ok(match connection.login(token).await {
        Ok(_) => OK.to_owned(),
        Err(error) => error.code().unwrap_or_else(|| error.to_string()),
    })
}

/// Whatever else may have ended them: they are not there.
async fn have_ended(sessions: Vec<Session>, by: &str) -> Result<()> {
    for mut session in sessions {
        let end = session.connection.closed_within(HOLDS_WITHIN).await;
        let (user, why) = (&session.user, session.ends.unwrap_or(by));
        ensure!(
            !matches!(end, CallError::TimedOut),
            "a session of {user} lives on, which should have ended: {why}"
        );
    }
    Ok(())
}
