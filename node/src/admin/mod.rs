//! What operators ask: one file for each kind of request, `service.rs` is the gRPC face, `caller.rs` says who asked.

mod apps;
mod caller;
mod certificates;
mod digest;
mod drain;
mod problems;
mod replace;
mod service;
mod sessions;
mod status;
mod upgrade;
mod users;

pub use service::AdminService;
pub use status::notes;
