//! What is loaded: a cluster that is started for the run, or the one of the context in effect.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlance_client::wire::Endpoint;
use parlance_proto::common::v1::TokenFormat;
use parlance_proto::ids::{AppId, UserId};
use serde::Serialize;
use tokio::time::Instant;

use super::cluster::OwnCluster;
use super::processes::Process;
use super::session::Session as ClientSession;
use crate::admin::Admin;
use crate::args::bench::TargetArgs;
use crate::commands::Session;
use crate::exit::not_possible;
use crate::token;

/// Longer than any run.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
const OWN_APP: &str = "bench";
const LOGINS_WITHIN: Duration = Duration::from_secs(30);
const LOGIN_POLL: Duration = Duration::from_millis(100);

/// A cluster under load.
pub struct Target {
    pub gateways: Vec<Endpoint>,
    /// Whose cost is read: the cluster's own processes if this run started them, and always the generator.
    pub processes: Vec<Process>,
    /// Set if this run started it.
    pub own: Option<OwnCluster>,
    app: AppId,
    secret: String,
    /// Makes users and messages of this run different from those of all others.
    run: String,
    users: AtomicU64,
}

/// Of what cluster the figures are.
#[derive(Debug, Clone, Serialize)]
pub struct TargetSummary {
    pub nodes: Option<u64>,
    pub gateways: usize,
    pub shards: Option<usize>,
    /// False: the cluster was running already, and the cost of its processes is not known.
    pub started_for_this_run: bool,
}

impl Target {
    /// Starts or finds it.
    pub async fn open(session: &Session, args: &TargetArgs) -> anyhow::Result<Self> {
        #[allow(
            clippy::disallowed_methods,
            reason = "no run may have the users of another"
        )]
        let run = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        let generator = Process {
            name: "generator".to_owned(),
            pid: std::process::id(),
        };
        let mut target = if args.nodes.is_some() {
            let own = OwnCluster::start(args).await?;
            let app = AppId::new(OWN_APP)?;
            let secret = own.create_app(&app).await?;
            Self {
                gateways: resolve(&own.gateway_urls()).await?,
                processes: own.processes(),
                own: Some(own),
                app,
                secret,
                run,
                users: AtomicU64::new(0),
            }
        } else {
            let context = session.resolve()?.context;
            if context.gateways.is_empty() {
                return Err(not_possible(
                    "no gateway is known: give --nodes to start a cluster for this run, or --via, or choose a context",
                ));
            }
            let app = context.app(args.app.as_ref())?;
            let secret = Admin::connect(&context)
                .await?
                .app_secret(&app, TokenFormat::Jwt)
                .await?;
            Self {
                gateways: resolve(&context.gateways).await?,
                processes: Vec::new(),
                own: None,
                app,
                secret,
                run,
                users: AtomicU64::new(0),
            }
        };
        target.processes.push(generator);
        if target.own.is_some() {
            target.wait_for_logins().await?;
        }
        Ok(target)
    }

    /// A gateway that has just started refuses logins until it knows its cluster.
    async fn wait_for_logins(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LOGINS_WITHIN;
        for gateway in &self.gateways {
            while let Err(e) =
                ClientSession::open(gateway, None, &self.token(&self.new_user()?)?).await
            {
                if Instant::now() > deadline {
                    return Err(e.context("wait for the gateways to take logins"));
                }
                tokio::time::sleep(LOGIN_POLL).await;
            }
        }
        Ok(())
    }

    /// A user that nobody has been yet.
    pub fn new_user(&self) -> anyhow::Result<UserId> {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        Ok(UserId::new(format!("bench-{}-{number}", self.run))?)
    }

    /// A token for a user of this run.
    pub fn token(&self, user: &UserId) -> anyhow::Result<String> {
        token::issue(&self.app, user, &self.secret, TOKEN_TTL)
    }

    /// The gateway of the nth session: they take turns.
    pub fn gateway(&self, session: usize) -> &Endpoint {
        &self.gateways[session % self.gateways.len()]
    }

    pub fn app(&self) -> &AppId {
        &self.app
    }

    pub fn summary(&self, args: &TargetArgs) -> TargetSummary {
        TargetSummary {
            nodes: args.nodes,
            gateways: self.gateways.len(),
            shards: self.own.as_ref().map(OwnCluster::shard_count),
            started_for_this_run: self.own.is_some(),
        }
    }

    /// Stops what this run has started.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.own {
            Some(own) => own.stop().await,
            None => Ok(()),
        }
    }
}

async fn resolve(urls: &[String]) -> anyhow::Result<Vec<Endpoint>> {
    let mut gateways = Vec::new();
    for url in urls {
        let gateway = Endpoint::resolve(url, None).await?;
        if gateway.is_secure() {
            return Err(not_possible(format!(
                "{url:?} cannot be loaded: the load generator speaks plain ws:// only, so that its own TLS is not measured"
            )));
        }
        gateways.push(gateway);
    }
    Ok(gateways)
}
