//! The gateway: terminates client WebSockets and forwards over links to the nodes. It holds no state that matters
//! and may be killed at any time.
//!
//! A message's way in: `ws/accept.rs` → `ws/connection.rs` → `request/send.rs` (lane) → `link/route.rs` →
//! `link/client.rs` ⇒ node. An event's way out: `link/client.rs` → `fanout/push.rs` → `ws/queue.rs` →
//! `ws/connection.rs`. A login: `session/login.rs` → `token/` → `fanout/topics.rs` → `fanout/shard.rs`.
//!
//! Absent by design: no disk, no knowledge of Raft, no order of its own. Logging, signals, configuration files
//! and operations endpoints are the caller's.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod context;
mod error;
mod fanout;
mod link;
pub mod metrics;
mod request;
mod server;
mod session;
mod token;
mod ws;

pub use config::{ClientTls, Config, Limits};
pub use error::StartError;
pub use server::Gateway;
pub use ws::codec::{DecodeError, Format, PROTOCOL_BINARY, PROTOCOL_JSON, decode_client_frame};
