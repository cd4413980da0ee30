//! The one program of Parlance, as a library: the processes it runs, the operator's commands, and a client of the
//! WebSocket protocol that the commands, the load generator and the tests share.
//!
//! The binary parses and exits; `args` shows the whole command tree.

pub mod client;
