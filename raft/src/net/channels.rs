//! Connections to peers: made when first needed, kept, made again when lost.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use super::{
    CONNECT_DEADLINE, CONNECTION_WINDOW_BYTES, KEEP_ALIVE_DEADLINE, KEEP_ALIVE_INTERVAL, MESSAGE_BYTES_MAX,
    STREAM_WINDOW_BYTES,
};
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
    open: Arc<Mutex<HashMap<(String, Purpose), Channel>>>,
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
                let channel = endpoint(address)?.connect_lazy();
                open.insert((address.to_owned(), purpose), channel.clone());
                channel
            }
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

fn endpoint(address: &str) -> Result<Endpoint, BadAddress> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|cause| BadAddress {
        address: address.to_owned(),
        cause,
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_DEADLINE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}
