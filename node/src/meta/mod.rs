//! The meta shard: the one Raft shard that holds the cluster map, the apps and the kicks, on every node a replica or a reader.
//!
//! [`MetaMachine`] applies its commands, [`MetaState`] is what everybody on this node watches, [`Leaders`] is who
//! leads which shard, as far as this node has heard.

mod apply;
mod leaders;
mod pages;
mod state;
mod watch;

pub use apply::MetaMachine;
pub use leaders::{Lead, Leaders};
pub use state::{Kicks, MetaState, MetaWatch, Route};
pub use watch::watch_cluster;
