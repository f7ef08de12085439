//! Blox beside etcd on one machine, in one run: both sides take turns, and every figure is a ratio of the two. `make bench` and `make bench-full`.
//!
//! The rooms: [`process`] and [`ports`] start what is measured and read what the kernel counts of it, [`server`] is a side of three members, [`client`]
//! speaks to either, [`load`] puts a load on it, [`floor`] says what the machine allows, [`rows`] are what is measured. Pure, and tested by
//! themselves: [`figure`] judges, [`summary`] and [`chart`] show.

pub mod chart;
pub mod client;
pub mod figure;
pub mod floor;
pub mod load;
pub mod ports;
pub mod process;
pub mod rows;
pub mod server;
pub mod summary;

/// What is spoken with etcd.
pub mod protocol {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("etcdserverpb");
}
