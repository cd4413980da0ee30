//! What tests of every crate share.
//!
//! - [`cluster`] starts real `parlance node` and `parlance gateway` processes on ports of their own and does to them
//!   what faults need; [`logs`] looks at what they wrote, [`admin`] and [`cli`] operate them.
//! - [`disk`] mounts disks that can be made to fail.
//! - [`certs`] makes a cluster's authority and certificates, [`token`] what users log in with.
//! - [`peer`] plays the other end for a test of one end: a gateway for a client, a node for whoever dials nodes.
//! - [`log_lines`] is what the code under test logs in the same process.
//! - [`wait`] waits for a condition, never for a time; [`needs`] says what this machine lacks; [`keep`] is where failed runs go.

pub mod admin;
pub mod certs;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod keep;
pub mod log_lines;
pub mod logs;
pub mod needs;
pub mod peer;
pub mod token;
pub mod wait;
