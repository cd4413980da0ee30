//! A node's part in its cluster: becoming a member, running the replicas that the cluster map gives it, moving and
//! splitting shards, and telling other nodes how it is.
//!
//! [`NodeContext`] is a node before and after it is in a cluster; [`Runtime`] is what runs once it is in one.
//! `join.rs`, `invite.rs` and `found.rs` lead from the one to the other. In the runtime, `assignment.rs` decides which
//! replicas run here, `placement.rs` makes the shards that this node leads what the map wants, `split.rs` splits them.

mod agreed_clock;
mod announce;
mod assignment;
mod context;
mod denied;
mod directory;
mod disk_watch;
mod error;
mod found;
mod gauges;
mod handover;
mod heard;
mod identity;
mod invite;
mod join;
mod leadership;
mod levels;
mod link_watch;
mod meta_client;
mod offers;
mod peer_dispatch;
mod placement;
mod plan;
mod replica;
mod runtime;
mod seeds;
mod split;
mod steadiness;
mod sweep;
mod tasks;
mod tend;
mod view;
mod vitals;
mod wanted;

pub use context::NodeContext;
pub use error::{StartError, listen_error};
pub use found::init_cluster;
pub use heard::LeadReport;
pub use invite::{check_addresses, invite, map_node};
pub use join::{resume, stored_identity};
pub use levels::common_level;
pub use runtime::Runtime;
pub use view::ClusterView;
pub use vitals::{DISK_SILENT_MS, store_trouble, takes};
