//! From a node's push to the queues of the local sessions, and the subscriptions that make nodes push.

pub mod push;
mod shard;
pub mod topics;
