//! Connections to peers: made when first needed, kept, made again when lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::MESSAGE_BYTES_MAX;
use super::transport::{self, Channel};
use crate::proto::peer_client::PeerClient;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Heartbeats, votes and leadership transfer: small, urgent.
    Heartbeat,
    /// Appends.
    Replication,
    /// Snapshots: large, long.
    Snapshot,
    /// Proposals and reads of a follower's callers.
    Requests,
}

/// The connections of this node, by peer address and purpose.
#[derive(Clone, Default)]
pub(crate) struct Channels {
    /// What was sent over them.
    pub traffic: Arc<Traffic>,
    open: Arc<Mutex<HashMap<(String, Purpose), Channel>>>,
}

/// What was sent to peers, for the metrics page: how much, and the largest, which has its limit and must stay below it.
#[derive(Default)]
pub(crate) struct Traffic {
    /// Appends with entries.
    pub appends: AtomicU64,
    /// Bytes of these.
    pub append_bytes: AtomicU64,
    /// Proposals and reads handed to the leader: calls, each for all that waited.
    pub requests: AtomicU64,
    append_bytes_max: AtomicU64,
    message_bytes_max: AtomicU64,
}

impl Traffic {
    /// An append is about to leave, with so many entries.
    pub(super) fn append(&self, entries: usize, bytes: usize) {
        if entries > 0 {
            self.appends.fetch_add(1, Ordering::Relaxed);
            self.append_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        self.append_bytes_max.fetch_max(bytes as u64, Ordering::Relaxed);
        self.message(bytes);
    }

    /// A call to the leader is about to leave.
    pub(super) fn request(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.message(bytes);
    }

    /// Any message is about to leave.
    pub(super) fn message(&self, bytes: usize) {
        self.message_bytes_max.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of the largest append and of the largest message.
    pub(crate) fn largest(&self) -> (u64, u64) {
        (
            self.append_bytes_max.load(Ordering::Relaxed),
            self.message_bytes_max.load(Ordering::Relaxed),
        )
    }
}

/// An address nothing can be connected to.
#[derive(Debug, thiserror::Error)]
#[error("`{address}` is not an address to connect to: {cause}")]
pub(crate) struct BadAddress {
    address: String,
    cause: tonic::transport::Error,
}

impl Channels {
    /// A client for `address` (`host:port`). Connects when first used.
    pub(super) fn client(&self, address: &str, purpose: Purpose) -> Result<PeerClient<Channel>, BadAddress> {
        let mut open = self.open.lock();
        let channel = match open.get(&(address.to_owned(), purpose)) {
            Some(channel) => channel.clone(),
            None => {
                let channel = transport::connect(address).map_err(|cause| BadAddress {
                    address: address.to_owned(),
                    cause,
                })?;
                open.insert((address.to_owned(), purpose), channel.clone());
                channel
            }
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}
