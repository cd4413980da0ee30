//! The processes that serve: a node, a gateway, and a whole cluster in one process for development.
//!
//! All three start the same library code; here are settings, logs, signals and the operations listener around it.

pub mod dev;
pub mod gateway;
pub mod node;
mod process;
mod settings;
