//! Tests of this folder that need more than one of its files.

mod baseline;
mod cluster;
mod damage;
mod fixture;
mod suite;
