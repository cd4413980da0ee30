//! A cluster of real processes on one machine, with everything a fault needs: kill, stop, freeze, damage, replace.

pub mod address;
mod asked;
pub mod binary;
pub mod clocks;
mod crash;
pub mod health;
pub mod links;
pub mod network;
mod power;
pub mod process;
pub mod replace;
mod settings;
pub mod shards;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use parlance_proto::admin::v1::NodeSpec;
use parlance_proto::tls::{Role, TlsFiles};
use tempfile::TempDir;

use crate::admin::Admin;
use crate::certs::Authority;
use crate::disk::Disk;
use crate::token::Signer;
use crate::wait::until;
use address::Address;
use clocks::Clocks;
use links::Links;
use network::Network;
use process::{Process, Program};

/// A process must serve within this time, on a machine with other work too.
pub const START_WITHIN: Duration = Duration::from_secs(40);
/// And must be gone within this after a SIGTERM.
pub const STOP_WITHIN: Duration = Duration::from_secs(30);
/// The variable that names a process's crash file.
const CRASH_FILE: &str = "PARLANCE_TEST_CRASH_FILE";
/// The app that tests chat in.
pub const APP: &str = "chaos";

/// What to start.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    pub nodes: u64,
    pub gateways: usize,
    pub shards: u32,
    /// Added to every node's settings file, and to every gateway's.
    pub node_settings: toml::Table,
    pub gateway_settings: toml::Table,
    pub environment: Vec<(String, String)>,
    /// Variables of one process each, by its name, as in `node-2`.
    pub environment_of: Vec<(String, (String, String))>,
    /// Nodes reach each other through relays, which faults can cut.
    pub relays: bool,
    /// Each node has a disk of its own that can be made to fail.
    pub disks: bool,
    /// Gateways reach nodes through relays, which faults can close.
    pub link_relays: bool,
    /// Each process has a clock of its own, which faults can turn.
    pub clocks: bool,
    /// Another program than the usual one.
    pub binary: Option<PathBuf>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        let (node_settings, gateway_settings) = (toml::Table::new(), toml::Table::new());
        Self {
            nodes: 3,
            gateways: 2,
            shards: 4,
            node_settings,
            gateway_settings,
            environment: Vec::new(),
            environment_of: Vec::new(),
            relays: false,
            disks: false,
            link_relays: false,
            clocks: false,
            binary: None,
        }
    }
}

/// Processes, their files and their keys. All of it is gone when this is dropped.
pub struct Cluster {
    pub spec: ClusterSpec,
    pub address: Address,
    pub authority: Authority,
    pub operator: TlsFiles,
    pub signer: Signer,
    /// The nodes' disks, with `disks`. They go first: a process that waits for one could not be ended.
    disks: BTreeMap<u64, Disk>,
    pub nodes: BTreeMap<u64, Process>,
    pub gateways: Vec<Process>,
    /// The network between the nodes, with `relays`.
    pub network: Network,
    /// The network between gateways and nodes, with `link_relays`.
    pub links: Links,
    /// With `clocks`.
    pub clocks: Option<Clocks>,
    /// Nodes that are out of the cluster for good; their logs are still looked at.
    pub retired: Vec<Process>,
    binary: PathBuf,
    dir: TempDir,
}

impl Cluster {
    /// Starts the processes, makes the cluster and the app, and waits until all is served.
    pub async fn start(spec: ClusterSpec) -> Result<Self> {
        let mut cluster = Self::prepare(spec)?;
        let started = cluster.bring_up().await;
        started.map_err(|error| error.context(cluster.tails()))?;
        Ok(cluster)
    }

    /// Files and certificates; nothing runs.
    pub fn prepare(spec: ClusterSpec) -> Result<Self> {
        let binary = match &spec.binary {
            Some(binary) => binary.clone(),
            None => binary::find()?,
        };
        let dir = tempfile::Builder::new()
            .prefix("parlance-cluster-")
            .tempdir()?;
        let authority = Authority::create(&dir.path().join("tls"))?;
        let operator = authority.issue("operator", Role::Admin)?;
        let signer = Signer::new(APP, "");
        let (node_ids, gateway_count) = (1..=spec.nodes, spec.gateways);
        let clocks = spec.clocks.then(|| Clocks::build(dir.path()));
        let mut cluster = Self {
            address: Address::take()?,
            spec,
            authority,
            operator,
            signer,
            nodes: BTreeMap::new(),
            gateways: Vec::new(),
            network: Network::default(),
            links: Links::default(),
            clocks: clocks.transpose()?,
            retired: Vec::new(),
            disks: BTreeMap::new(),
            binary,
            dir,
        };
        for node_id in node_ids {
            cluster.add_node(node_id)?;
        }
        for number in 1..=gateway_count {
            let process = cluster.gateway_process(number)?;
            cluster.gateways.push(process);
        }
        Ok(cluster)
    }

    /// `kill -9`, one right after the other.
    pub fn kill_all_nodes(&mut self) -> Result<()> {
        self.nodes.values_mut().try_for_each(Process::kill)
    }

    /// None of them may run.
    pub fn start_all_nodes(&mut self) -> Result<()> {
        self.nodes.values_mut().try_for_each(Process::start)
    }

    async fn bring_up(&mut self) -> Result<()> {
        self.start_all_nodes()?;
        self.wait_admin_answers(START_WITHIN).await?;
        let specs = self
            .nodes
            .keys()
            .map(|node_id| self.node_spec(*node_id))
            .collect::<Vec<_>>();
        let shards = self.spec.shards;
        until("the cluster is made", START_WITHIN, async || {
            self.admin(1).await?.init(specs.clone(), shards).await
        })
        .await?;
        self.wait_nodes_ready(START_WITHIN).await?;
        let secret = until("the app is made", START_WITHIN, async || {
            self.admin(1).await?.create_app(APP).await
        })
        .await?;
        self.signer = Signer::new(APP, secret);
        for gateway in &mut self.gateways {
            gateway.start()?;
        }
        self.wait_gateways_ready(START_WITHIN).await?;
        self.wait_healthy(START_WITHIN).await
    }

    /// Files and a process for a node; it does not run yet.
    pub fn add_node(&mut self, node_id: u64) -> Result<()> {
        if self.spec.disks {
            let disk = Disk::mount(&self.dir.path().join(format!("disk-{node_id}")))?;
            self.disks.insert(node_id, disk);
        }
        let tls = self
            .authority
            .issue(&format!("node-{node_id}"), Role::Node(node_id))?;
        let settings = settings::node(self, node_id, &tls);
        let process = self.process(&format!("node-{node_id}"), "node", settings)?;
        self.nodes.insert(node_id, process);
        if self.spec.relays {
            self.network.add(
                node_id,
                self.raft_advertise(node_id),
                self.address.raft(node_id),
            )?;
        }
        if self.spec.link_relays {
            let (relay, real) = (self.address.link_relay(node_id), self.address.link(node_id));
            self.links.add(node_id, relay, real)?;
        }
        Ok(())
    }

    fn gateway_process(&mut self, number: usize) -> Result<Process> {
        let gateway_id = format!("gateway-{number}");
        let role = Role::Gateway(gateway_id.clone());
        let tls = self.authority.issue(&gateway_id, role)?;
        let settings = settings::gateway(self, number, &tls);
        self.process(&gateway_id, "gateway", settings)
    }

    fn process(&mut self, name: &str, verb: &str, settings: toml::Table) -> Result<Process> {
        let file = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, toml::to_string(&settings)?)?;
        let arguments = vec![
            verb.to_owned(),
            "--config".to_owned(),
            file.display().to_string(),
        ];
        let log = self.dir.path().join(format!("{name}.log"));
        let mut program = self.program();
        let own = self.spec.environment_of.iter();
        let own = own.filter(|(process, _)| process == name);
        program
            .environment
            .extend(own.map(|(_, variable)| variable.clone()));
        // Only a build with switches looks at it.
        let crash_file = self.crash_file(name).display().to_string();
        program
            .environment
            .push((CRASH_FILE.to_owned(), crash_file));
        if let Some(clocks) = &mut self.clocks {
            program.environment.extend(clocks.give(name)?);
        }
        Ok(Process::new(name, program, arguments, log))
    }

    /// Whatever place in the code is written into it, there the process ends; see `node/src/sabotage.rs`.
    pub fn crash_file(&self, process: &str) -> PathBuf {
        self.dir.path().join(format!("{process}.crash"))
    }

    /// What all processes are at first.
    pub fn program(&self) -> Program {
        Program {
            binary: self.binary.clone(),
            environment: self.spec.environment.clone(),
        }
    }

    /// Where other nodes are told to reach a node.
    fn raft_advertise(&self, node_id: u64) -> SocketAddr {
        if self.spec.relays {
            self.address.raft_relay(node_id)
        } else {
            self.address.raft(node_id)
        }
    }

    /// Where gateways are told to reach a node.
    fn link_advertise(&self, node_id: u64) -> SocketAddr {
        if self.spec.link_relays {
            self.address.link_relay(node_id)
        } else {
            self.address.link(node_id)
        }
    }

    /// How a node is told to the cluster.
    pub fn node_spec(&self, node_id: u64) -> NodeSpec {
        NodeSpec {
            node_id,
            raft_address: self.raft_advertise(node_id).to_string(),
            link_address: self.link_advertise(node_id).to_string(),
        }
    }

    /// Where a node keeps its data.
    pub fn data_dir(&self, node_id: u64) -> PathBuf {
        match self.disks.get(&node_id) {
            Some(disk) => disk.folder().join("data"),
            None => self.dir.path().join(format!("data-{node_id}")),
        }
    }

    /// The directory of all files of the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where clients connect.
    pub fn gateway_addresses(&self) -> Vec<String> {
        (1..=self.spec.gateways)
            .map(|number| self.address.gateway(number).to_string())
            .collect()
    }

    /// The admin API of one node.
    pub async fn admin(&self, node_id: u64) -> Result<Admin> {
        Admin::connect(&self.address.link(node_id).to_string(), &self.operator).await
    }

    /// The admin API of any node that answers.
    pub async fn any_admin(&self) -> Result<Admin> {
        let mut last = anyhow!("no node runs");
        for (node_id, node) in &self.nodes {
            if node.runs() {
                match self.admin(*node_id).await {
                    Ok(admin) => return Ok(admin),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    /// A node's process.
    pub fn node(&mut self, node_id: u64) -> Result<&mut Process> {
        self.nodes
            .get_mut(&node_id)
            .with_context(|| format!("no node {node_id}"))
    }

    /// All processes that were ever started.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.nodes
            .values()
            .chain(&self.gateways)
            .chain(&self.retired)
    }

    /// The end of every process's output, for an error message.
    pub fn tails(&self) -> String {
        self.processes()
            .map(|process| format!("--- {}\n{}\n", process.name, process.tail(15)))
            .collect()
    }

    /// Processes that crashed since they were last asked for. Whoever asks must fail of them; what nobody asks for fails the
    /// test that drops the process.
    pub fn crashes(&mut self) -> Result<Vec<String>> {
        let processes = self.nodes.values_mut().chain(&mut self.gateways);
        let mut all = Vec::new();
        for process in processes.chain(&mut self.retired) {
            all.extend(process.crashes()?);
        }
        Ok(all)
    }

    /// Copies all process logs and settings.
    pub fn keep_logs(&self, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to)?;
        for process in self.processes() {
            let from = process.log();
            if let Some(name) = from.file_name().filter(|_| from.exists()) {
                std::fs::copy(from, to.join(name))?;
            }
        }
        Ok(())
    }

    /// Fails if a process has ended that should run.
    pub fn check_all_run(&mut self) -> Result<()> {
        for process in self.nodes.values_mut().chain(&mut self.gateways) {
            if let Some(status) = process.ended()? {
                bail!(
                    "{} ended by itself with {status}:\n{}",
                    process.name,
                    process.tail(20)
                );
            }
        }
        Ok(())
    }
}
