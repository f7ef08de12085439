//! Clients as light as can be, so that the servers are the limit: one connection each, one request at a time, nothing looked at but success.

mod etcd;
mod http;

use std::future::Future;

use bytes::Bytes;

pub use etcd::{EtcdClient, EtcdStatus, EtcdWatch, KeyPrefix};
pub use http::{HttpClient, HttpStream, MultiplexedClient, get_once};

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
