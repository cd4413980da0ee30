//! Tests of this folder that need more than one of its files.

mod cluster;
mod damage;
pub(crate) mod fixture;
mod lease;
mod links;
mod slow_link;
mod snapshots;
mod split;
mod stops;
mod suite;
