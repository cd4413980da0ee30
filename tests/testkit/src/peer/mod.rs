//! The other end, played by a test. Each of these is only the transport: what it answers is the test's own.

mod gateway;
mod node;

pub use gateway::GatewayPeer;
pub use node::NodePeer;
