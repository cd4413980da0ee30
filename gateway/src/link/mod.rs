//! The cluster as this gateway sees it: its state (`view`, `watch`), one link per node (`client`, `replay`) and
//! the way to a shard's leader (`route`). Knows nothing of clients.

pub mod backoff;
pub mod client;
pub mod replay;
pub mod requests;
pub mod route;
pub mod view;
pub mod watch;
