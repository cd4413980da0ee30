//! Clients: accept, upgrade, frames in and out of one socket. Knows nothing of nodes.

pub mod accept;
pub mod close;
pub mod codec;
pub mod connection;
pub mod page;
pub mod queue;
pub mod stream;
