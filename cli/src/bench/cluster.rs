//! A cluster of this program's own processes on this machine, for the length of one run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use parlance_proto::admin::v1::{CreateAppRequest, GetClusterStatusRequest, NodeSpec, ShardStatus};
use parlance_proto::common::v1::AppLimits;
use parlance_proto::ids::AppId;
use parlance_proto::limits::MESSAGES_PER_SECOND_MAX;
use parlance_proto::slot::{Slot, SlotRange};
use parlance_proto::tls::{Role, TlsFiles};
use tokio::process::Child;
use tokio::time::Instant;

use super::disk;
use super::latency::Latency;
use super::own_process::{end, free_tcp_port, free_udp_port, start};
use super::processes::Process;
use super::settings;
use crate::admin::Admin;
use crate::args::bench::TargetArgs;
use crate::ca::Authority;
use crate::commands::cluster::init;
use crate::output::say;

const CERTIFICATES_VALID: Duration = Duration::from_secs(7 * 24 * 3600);
const READY_WITHIN: Duration = Duration::from_secs(90);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// It is killed when this is dropped, and stopped gracefully by [`OwnCluster::stop`].
pub struct OwnCluster {
    dir: PathBuf,
    keep: bool,
    nodes: Vec<NodeProcess>,
    gateways: Vec<GatewayProcess>,
    admin_tls: TlsFiles,
    /// The shards and their slots.
    shards: Vec<(u32, SlotRange)>,
    /// Of the folder that the nodes write to, before they did.
    pub fsync: Latency,
}

pub(super) struct NodeProcess {
    pub(super) id: u64,
    pub(super) raft: SocketAddr,
    pub(super) link: SocketAddr,
    child: Option<Child>,
}

struct GatewayProcess {
    listen: SocketAddr,
    child: Child,
}

impl OwnCluster {
    /// Starts it and waits until every shard has a leader and the gateways take clients.
    pub async fn start(args: &TargetArgs) -> anyhow::Result<Self> {
        let parent = args.data_dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = parent.join(format!("parlance-bench-{}", std::process::id()));
        crate::files::create_private_dir(&dir)?;
        let probed = dir.clone();
        let fsync = tokio::task::spawn_blocking(move || disk::fsync_latency(&probed)).await??;
        let authority = Authority::create(&dir.join("ca"))
            .with_context(|| format!("make certificates in {}", dir.display()))?;
        let mut cluster = Self {
            keep: args.keep,
            nodes: Vec::new(),
            gateways: Vec::new(),
            shards: Vec::new(),
            admin_tls: authority.issue(&Role::Admin, CERTIFICATES_VALID)?,
            fsync,
            dir,
        };
        say(format!("starting a cluster in {}", cluster.dir.display()));
        let started = cluster.bring_up(args, &authority).await;
        if started.is_err() {
            // The logs say why.
            cluster.keep = true;
        }
        started.with_context(|| {
            format!("start a cluster; its logs are in {}", cluster.dir.display())
        })?;
        Ok(cluster)
    }

    async fn bring_up(&mut self, args: &TargetArgs, authority: &Authority) -> anyhow::Result<()> {
        let ids = 1..=args.nodes.unwrap_or(1);
        for id in ids {
            let (raft, link) = (free_udp_port()?, free_tcp_port()?);
            self.nodes.push(NodeProcess {
                id,
                raft,
                link,
                child: None,
            });
        }
        for index in 0..self.nodes.len() {
            let id = self.nodes[index].id;
            let tls = authority.issue(&Role::Node(id), CERTIFICATES_VALID)?;
            let table = settings::node(
                &self.dir,
                &self.nodes[index],
                &self.nodes,
                &tls,
                &args.node_setting,
            )?;
            std::fs::write(self.config_path(&format!("node-{id}")), table)
                .context("write a node's settings")?;
            self.start_node(id)?;
        }
        let specs = self.nodes.iter().map(|node| NodeSpec {
            node_id: node.id,
            raft_address: node.raft.to_string(),
            link_address: node.link.to_string(),
        });
        self.init(specs.collect(), args.shards.unwrap_or(0)).await?;
        self.wait_healthy().await?;
        for number in 1..=args.gateways {
            let (name, listen) = (format!("gateway-{number}"), free_tcp_port()?);
            let role = Role::Gateway(name.clone());
            let tls = authority.issue(&role, CERTIFICATES_VALID)?;
            let text = settings::gateway(&name, listen, &self.nodes, &tls, &args.gateway_setting)?;
            std::fs::write(self.config_path(&name), text).context("write a gateway's settings")?;
            let child = self.spawn("gateway", &name)?;
            self.gateways.push(GatewayProcess { listen, child });
        }
        self.wait_for_gateways().await
    }

    /// Every node has to be up before it can be invited: asks until it works.
    async fn init(&mut self, nodes: Vec<NodeSpec>, shards: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.check_running()?;
            let made = match self.admin().await {
                Ok(mut admin) => init(&mut admin, nodes.clone(), shards).await,
                Err(e) => Err(e),
            };
            match made {
                Ok(_) => return Ok(()),
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Starts a node that does not run.
    pub fn start_node(&mut self, id: u64) -> anyhow::Result<()> {
        let child = self.spawn("node", &format!("node-{id}"))?;
        self.node(id)?.child = Some(child);
        Ok(())
    }

    /// `kill -9`.
    pub async fn kill_node(&mut self, id: u64) -> anyhow::Result<()> {
        let mut child = self
            .node(id)?
            .child
            .take()
            .with_context(|| format!("node {id} does not run"))?;
        child
            .kill()
            .await
            .with_context(|| format!("kill node {id}"))
    }

    fn node(&mut self, id: u64) -> anyhow::Result<&mut NodeProcess> {
        self.nodes
            .iter_mut()
            .find(|node| node.id == id)
            .with_context(|| format!("there is no node {id}"))
    }

    pub fn node_ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// How many shards it has.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The shard that owns a slot.
    pub fn owner(&self, slot: Slot) -> Option<u32> {
        let mut shards = self.shards.iter();
        Some(shards.find(|(_, range)| range.contains(slot))?.0)
    }

    pub fn gateway_urls(&self) -> Vec<String> {
        self.gateways
            .iter()
            .map(|gateway| format!("ws://{}/ws", gateway.listen))
            .collect()
    }

    /// Those that run.
    pub fn processes(&self) -> Vec<Process> {
        let nodes = self
            .nodes
            .iter()
            .filter_map(|node| Some((format!("node {}", node.id), node.child.as_ref()?)));
        let gateways = self
            .gateways
            .iter()
            .enumerate()
            .map(|(i, gateway)| (format!("gateway {}", i + 1), &gateway.child));
        nodes
            .chain(gateways)
            .filter_map(|(name, child)| {
                Some(Process {
                    name,
                    pid: child.id()?,
                })
            })
            .collect()
    }

    /// Makes an app whose users may send as fast as they can, and returns its secret.
    pub async fn create_app(&self, app_id: &AppId) -> anyhow::Result<String> {
        let mut admin = self.admin().await?;
        let request = CreateAppRequest {
            app_id: app_id.into(),
            limits: Some(AppLimits {
                session_messages_per_second: MESSAGES_PER_SECOND_MAX,
                user_messages_per_second: MESSAGES_PER_SECOND_MAX,
                app_messages_per_second: MESSAGES_PER_SECOND_MAX,
            }),
            ..CreateAppRequest::default()
        };
        let answer = admin
            .api
            .create_app(request)
            .await
            .map_err(|status| admin.failed("create the app", &status))?;
        let app = answer.into_inner().app.unwrap_or_default();
        let secret = app.secrets.into_iter().next();
        let secret = secret.context("create the app: it has no secret")?;
        Ok(secret.secret)
    }

    /// Waits until every shard has a leader and all its replicas.
    pub async fn wait_healthy(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.check_running()?;
            let status = match self.admin().await {
                Ok(mut admin) => admin
                    .api
                    .get_cluster_status(GetClusterStatusRequest {})
                    .await
                    .ok(),
                Err(_) => None,
            };
            let status = status.map(tonic::Response::into_inner).unwrap_or_default();
            let bad = status
                .shards
                .iter()
                .filter(|shard| shard.health != "ok")
                .count();
            if bad == 0
                && !status.shards.is_empty()
                && status.nodes.iter().all(|node| node.reachable)
            {
                let range = |shard: &ShardStatus| {
                    let range = SlotRange::new(shard.first_slot, shard.last_slot)?;
                    Some((shard.shard, range))
                };
                self.shards = status.shards.iter().filter_map(range).collect();
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "after {READY_WITHIN:?} {bad} of {} shards are not well",
                    status.shards.len()
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn wait_for_gateways(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        for gateway in &self.gateways {
            while tokio::net::TcpStream::connect(gateway.listen)
                .await
                .is_err()
            {
                if Instant::now() > deadline {
                    bail!("the gateway at {} takes no connection", gateway.listen);
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
        Ok(())
    }

    /// None of those that should run has ended by itself.
    fn check_running(&mut self) -> anyhow::Result<()> {
        let nodes = self.nodes.iter_mut().filter_map(|node| {
            let name = format!("node-{}", node.id);
            Some((name, node.child.as_mut()?))
        });
        let gateways = self.gateways.iter_mut().enumerate();
        let gateways =
            gateways.map(|(i, gateway)| (format!("gateway-{}", i + 1), &mut gateway.child));
        for (name, child) in nodes.chain(gateways) {
            if let Some(status) = child.try_wait().context("look after a process")? {
                self.keep = true;
                let log = self.dir.join(format!("{name}.log"));
                bail!("{name} ended by itself ({status}): see {}", log.display());
            }
        }
        Ok(())
    }

    async fn admin(&self) -> anyhow::Result<Admin> {
        let running = self.nodes.iter().filter(|node| node.child.is_some());
        Admin::connect_any(
            &running
                .map(|node| node.link.to_string())
                .collect::<Vec<_>>(),
            &self.admin_tls,
        )
        .await
    }

    fn spawn(&self, kind: &str, name: &str) -> anyhow::Result<Child> {
        let log = self.dir.join(format!("{name}.log"));
        start(kind, &self.config_path(name), &log).with_context(|| format!("start {name}"))
    }

    fn config_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.toml"))
    }

    /// Stops all gracefully, gateways first, and removes the data.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for gateway in &mut self.gateways {
            end(&mut gateway.child).await?;
        }
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            end(child).await?;
        }
        Ok(())
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        if self.keep {
            say(format!("kept: {}", self.dir.display()));
        } else if let Err(e) = std::fs::remove_dir_all(&self.dir) {
            say(format!("{} is left behind: {e}", self.dir.display()));
        }
    }
}
