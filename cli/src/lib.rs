//! The one program of Parlance, as a library: the processes it runs, the operator's commands, and a client of the
//! WebSocket protocol that the commands, the load generator and the tests share.
//!
//! The binary parses and exits; `args` shows the whole command tree. Logging, signals, settings and exit codes are
//! known here and nowhere else: node and gateway are libraries.

pub mod admin;
pub mod args;
pub mod ca;
pub mod client;
pub mod commands;
pub mod config_file;
pub mod context;
pub mod duration;
pub mod exit;
pub mod files;
pub mod ops;
pub mod output;
pub mod signals;
pub mod telemetry;
pub mod token;
