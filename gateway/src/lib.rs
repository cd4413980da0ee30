//! The gateway: terminates client WebSockets and forwards over links to the nodes. It holds no state that matters
//! and may be killed at any time.
//!
//! A message's path in: `endpoint/native/socket.rs` → `endpoint/native/dispatch.rs` → `api/messages.rs` → `api/lane.rs`
//! → `cluster/call.rs` → `cluster/client.rs` ⇒ node. An event's path out: `cluster/client.rs` → `fanout/deliver.rs` →
//! `session/queue.rs` → `endpoint/native/write.rs`. A login: `endpoint/native/login.rs` → `api/sessions.rs` → `token/`
//! → `fanout/homes.rs` → `fanout/shard.rs`.
//!
//! Absent by design: no disk, no knowledge of Raft, no order of its own. Logging, signals, configuration files
//! and operations endpoints are the caller's.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod api;
mod bounds;
mod cluster;
mod config;
mod endpoint;
mod error;
mod fanout;
pub mod metrics;
mod server;
mod session;
mod token;

pub use config::{Config, Limits, Listener, ListenerTls, Network, Protocol};
pub use endpoint::native::codec::{
    DecodeError, Format, PROTOCOL_BINARY, PROTOCOL_JSON, decode_client_frame,
};
pub use error::StartError;
pub use server::Gateway;
