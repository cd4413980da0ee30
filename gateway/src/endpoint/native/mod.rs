//! Parlance's own protocol over WebSocket, and the static files beside it.

mod close;
pub mod codec;
mod dispatch;
mod login;
mod socket;
mod upgrade;
mod write;

pub use upgrade::routes;
