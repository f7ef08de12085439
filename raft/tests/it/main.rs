//! Whole nodes on loopback: real logs, real stores, real connections.

mod cluster;
mod identity;
mod leadership;
mod membership;
mod reads;
mod replication;
mod restore;
mod snapshots;
