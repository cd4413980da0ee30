//! How a node comes into its cluster: at a start with a data directory, or by an invitation with an empty one.

use std::fs::File;
use std::sync::Arc;

use parlance_proto::ids::NodeId;
use parlance_proto::raft::v1::{InviteRequest, InviteResponse};
use parlance_proto::store::v1::{ClusterMap, Identity};
use parlance_proto::tls::TlsIdentity;
use parlance_proto::version::greeting;
use prost::Message;

use super::context::NodeContext;
use super::error::StartError;
use super::identity::{self, FORMAT};
use super::invite::founder;
use super::levels::{levels, speaks};
use super::runtime::{Parts, Runtime};
use super::seeds::refuse_if_known;
use crate::config::Config;
use crate::raft::{LocalIdentity, RaftHost, RaftHostConfig};
use crate::store::manifest::Existing;
use crate::store::rocks::{RocksStore, state_dir};
use crate::store::{StateStore, StoreError, Table, WriteBatch, decode, key};

/// Takes the data directory for this process, until the file is dropped, and reads whose it is; none if it is empty.
///
/// # Errors
/// A directory that is damaged, in use or somebody else's; an empty one under the id of a member.
pub async fn stored_identity(
    config: &Config,
    tls: &TlsIdentity,
) -> Result<(File, Option<Identity>), StartError> {
    // Before anything is read: what a node left half made is removed then.
    let lock = identity::lock(&config.data_dir)?;
    let identity = identity::read(&config.data_dir, config.node_id.0)?;
    if identity.is_none() {
        refuse_if_known(config, tls).await?;
    }
    Ok((lock, identity))
}

/// Goes on as the member that the data directory belongs to.
///
/// # Errors
/// A damaged directory, or a cluster whose feature level this program does not speak.
pub async fn resume(context: &Arc<NodeContext>, identity: Identity) -> Result<(), StartError> {
    let store = open_store(context, Existing::Required).await?;
    run(context, identity, store, Existing::Required).await?;
    Ok(())
}

/// Makes the data directory and runs as a member. `map` says where the other nodes are until the meta shard does.
pub(super) async fn join(
    context: &Arc<NodeContext>,
    identity: Identity,
    map: &ClusterMap,
) -> Result<Arc<Runtime>, StartError> {
    identity::begin(&context.config.data_dir)?;
    let store = open_store(context, Existing::No).await?;
    let mut batch = WriteBatch::default();
    batch.put(Table::Meta, key::invitation(), map.encode_to_vec());
    store.write(&batch)?;
    store.flush()?;
    run(context, identity, store, Existing::No).await
}

async fn open_store(
    context: &NodeContext,
    existing: Existing,
) -> Result<Arc<dyn StateStore>, StartError> {
    let dir = state_dir(&context.config.data_dir);
    let opened = tokio::task::spawn_blocking(move || RocksStore::open(&dir, existing)).await;
    let store = opened.map_err(|e| StoreError::Damaged {
        what: "state store".into(),
        reason: e.to_string(),
    })??;
    Ok(Arc::new(store))
}

async fn run(
    context: &Arc<NodeContext>,
    identity: Identity,
    store: Arc<dyn StateStore>,
    existing: Existing,
) -> Result<Arc<Runtime>, StartError> {
    if let Some(row) = store.get(Table::Meta, &key::invitation())? {
        let invited = decode("invitation", &row)?;
        check_lease(context, &invited)?;
        context.directory.suggest(&invited);
    }
    let host_config = RaftHostConfig {
        node_id: NodeId(identity.node_id),
        data_dir: context.config.data_dir.clone(),
        raft: context.config.raft.clone(),
        recover_torn_log: context.config.recover_torn_log,
        existing,
    };
    let host = RaftHost::open(host_config, store.clone(), context.peers.clone()).await?;
    if existing == Existing::No {
        // Last: a node that is killed before this was never a member.
        identity::write(&context.config.data_dir, &identity)?;
        let (cluster, node) = (&identity.cluster_id, identity.node_id);
        tracing::info!(cluster, node, "this node is a member now");
    }
    watch_disk(context, &host);
    let local = LocalIdentity {
        cluster_id: identity.cluster_id.clone(),
        store_id: identity.store_id.clone(),
    };
    context.quic.attach(local, host.inbound());
    let quic = context.quic.clone();
    let runtime = Runtime::start(Parts {
        config: context.config.clone(),
        identity,
        store,
        host,
        peers: context.peers.clone(),
        tls: context.tls.clone(),
        environment: context.environment.clone(),
        meta: context.meta.clone(),
        links: context.links().clone(),
        shards: context.shards().clone(),
        leaders: context.leaders().clone(),
        heard: context.heard.clone(),
        relays: context.relays.clone(),
        leave: Box::new(move || quic.detach()),
        failed: context.failed.clone(),
    })
    .await?;
    *context.runtime.write() = Some(runtime.clone());
    Ok(runtime)
}

/// A leader counts on its followers to keep quiet for as long as it reads by its lease: a node that promises less, or asks
/// for more, could make others read what is old.
fn check_lease(context: &NodeContext, map: &ClusterMap) -> Result<(), StartError> {
    let (own_ms, cluster_ms) = (context.config.raft.lease_ms, map.lease_ms);
    if own_ms == cluster_ms {
        return Ok(());
    }
    Err(StartError::Lease { own_ms, cluster_ms })
}

/// A failed disk ends the process: nothing that it acknowledged after could be believed.
fn watch_disk(context: &NodeContext, host: &RaftHost) {
    let (failing, failed) = (host.failed(), context.failed.clone());
    tokio::spawn(async move {
        let reason = failing.await;
        failed.send_replace(Some(reason));
    });
}

/// Answers invitations from now on.
pub(super) fn accept_invitations(context: &Arc<NodeContext>) {
    let weak = Arc::downgrade(context);
    context
        .dispatcher
        .on_invitation(Box::new(move |invitation| {
            let context = weak.upgrade();
            Box::pin(async move {
                match context {
                    Some(context) => answer(&context, invitation).await,
                    None => InviteResponse {
                        error: "this node is stopping".to_owned(),
                        ..InviteResponse::default()
                    },
                }
            })
        }));
}

async fn answer(context: &Arc<NodeContext>, invitation: InviteRequest) -> InviteResponse {
    let _one_at_a_time = context.joining.lock().await;
    let (store_id, error) = match accept(context, invitation).await {
        Ok(store_id) => (store_id, String::new()),
        Err(error) => (String::new(), error),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    InviteResponse {
        store_id,
        error,
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        levels: greeting(levels()),
    }
}

/// Makes the data directory, unless there is one; answers its id.
async fn accept(context: &Arc<NodeContext>, invitation: InviteRequest) -> Result<String, String> {
    if let Some(runtime) = context.runtime() {
        return accept_again(&runtime, &invitation);
    }
    if NodeId(invitation.node_id) != context.node_id() {
        return Err(format!(
            "this is node {}, not node {}",
            context.node_id(),
            invitation.node_id
        ));
    }
    let map = ClusterMap::decode(invitation.cluster_map)
        .map_err(|e| format!("the cluster map is malformed: {e}"))?;
    check_lease(context, &map).map_err(|e| e.to_string())?;
    if invitation.ask_only {
        return Ok(String::new());
    }
    if !speaks(greeting(levels()), map.feature_level) {
        return Err(format!(
            "node {} cannot speak feature level {} of the cluster",
            context.node_id(),
            map.feature_level
        ));
    }
    let store_id = context.environment.random_id();
    let identity = Identity {
        cluster_id: invitation.cluster_id,
        node_id: invitation.node_id,
        store_id: store_id.clone(),
        format: FORMAT,
    };
    let joined = join(context, identity, &map).await;
    joined.map(|_| store_id).map_err(|e| e.to_string())
}

/// A repeated invitation gets the first answer.
fn accept_again(runtime: &Runtime, invitation: &InviteRequest) -> Result<String, String> {
    let identity = runtime.identity();
    if identity.cluster_id == invitation.cluster_id && identity.node_id == invitation.node_id {
        return Ok(identity.store_id.clone());
    }
    let (node, cluster) = (identity.node_id, &identity.cluster_id);
    if runtime.view().state().map().is_some() {
        return Err(format!(
            "node {node} is a member of cluster {cluster} already"
        ));
    }
    let founder = founder(runtime).map_err(|e| e.to_string())?;
    Err(format!(
        "node {node} is a member of cluster {cluster}, and does not have its map yet: ask node {founder}"
    ))
}
