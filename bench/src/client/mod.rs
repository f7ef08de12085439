//! Clients of both sides. Loads and watches take lean ones, so that the servers are the limit: one connection each, one request at a time, nothing
//! looked at but success. Whatever is asked beside that, and by writers whose servers come and go, takes those that users have.

mod etcd;
pub mod frames;
mod http;
pub mod lean_etcd;
mod lean_http;

use std::future::Future;

use bytes::Bytes;

pub use etcd::{EtcdClient, EtcdStatus, count_snapshot};
pub use http::{HttpClient, HttpStream, get_once};
pub use lean_etcd::LeanEtcdClient;
pub use lean_http::LeanHttpClient;

/// How much a read asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Every write that was acknowledged before it began is seen.
    Linearizable,
    /// The member's own state (etcd: serializable).
    Local,
}

/// Why a call was not answered well.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It could not be connected.
    #[error("{address} takes no connection: {why}")]
    NotConnected {
        /// Whom.
        address: String,
        /// Why.
        why: String,
    },
    /// The connection broke, or what came was no answer.
    #[error("no answer: {0}")]
    Lost(String),
    /// An answer, but no success.
    #[error("refused: {0}")]
    Refused(String),
}

/// Somebody who puts and gets keys, on one member.
pub trait KeyClient {
    /// Writes a value; back when it is acknowledged.
    fn put(&mut self, key: &str, value: &Bytes) -> impl Future<Output = Result<(), CallError>>;

    /// Reads a key that exists; its value is received whole.
    fn get(&mut self, key: &str, reading: Reading) -> impl Future<Output = Result<(), CallError>>;
}
