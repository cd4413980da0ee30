//! Whole-cluster tests: real processes, real faults, and a checker that believes nothing it did not see.
//!
//! A run goes like this: the testkit's [`cluster`] starts `parlance node` and `parlance gateway` processes; [`load`] lets many
//! users chat through them, each one a [`session`] that behaves as an SDK does, on top of the plain protocol client
//! in [`client`], while [`readers`] read along and [`whisper`] speaks up in quiet conversations; [`faults`] breaks things
//! meanwhile; everything that was sent, answered and received is written into
//! a [`history`]; then all faults go off, the cluster must heal ([`recovery`]), and [`check`] looks for a promise that
//! was broken. [`chaos`] is the whole of it in one call, for the program `parlance-tests` and for `tests/*.rs`.
//!
//! Nothing of a node or a gateway is linked in: only the protocol is shared.

pub mod bulk;
pub mod chaos;
pub mod check;
pub mod client;
pub mod direct;
#[cfg(test)]
mod fake;
pub mod faults;
pub mod history;
pub mod load;
mod memory;
pub mod node_link;
pub mod readers;
pub mod recovery;
pub mod report;
pub mod session;
pub mod story;
pub mod whisper;

pub use parlance_testkit::{admin, cli, clock, cluster, disk, keep, logs, token, wait};
