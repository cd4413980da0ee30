//! From a node's push to the queues of the local sessions, and the subscriptions that make nodes push.

mod deliver;
mod homes;
mod leader;
mod shard;
mod topics;

pub use deliver::deliver;
pub use homes::Subscriptions;
