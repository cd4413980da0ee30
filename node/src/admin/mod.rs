//! What operators ask: one file for each kind of request, `service.rs` is the gRPC face, `caller.rs` says who asked.

mod apps;
mod caller;
mod digest;
mod nodes;
mod problems;
mod service;
mod status;
mod upgrade;

pub use service::AdminService;
pub use status::notes;
