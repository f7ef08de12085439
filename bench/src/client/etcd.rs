//! etcd's v3 protocol, by the same gRPC library that Blox's nodes speak with each other.

use std::time::Duration;

use bytes::Bytes;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::{CallError, KeyClient, Reading};
use crate::protocol::kv_client::KvClient;
use crate::protocol::maintenance_client::MaintenanceClient;
use crate::protocol::{PutRequest, RangeRequest, SnapshotRequest, StatusRequest};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// What a member may send of a snapshot ahead of what is read, bytes: the usual 64 KiB are two pieces of it, and would be the limit.
const SNAPSHOT_WINDOW_BYTES: u32 = 4 << 20;
/// Answers of whole lists.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// One connection to one member.
#[derive(Clone, Debug)]
pub struct EtcdClient {
    channel: Channel,
    keys: KvClient<Channel>,
}

/// What a member says of itself and of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtcdStatus {
    /// Its own id.
    pub member: u64,
    /// The leader's; 0: it knows none.
    pub leader: u64,
}

impl EtcdClient {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<EtcdClient, CallError> {
        let channel = connected(address, |endpoint| endpoint).await?;
        let keys = KvClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(EtcdClient { channel, keys })
    }

    /// How the member sees itself.
    pub async fn status(&self) -> Result<EtcdStatus, CallError> {
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        let answer = maintenance
            .status(StatusRequest {})
            .await
            .map_err(refused)?
            .into_inner();
        Ok(EtcdStatus {
            member: answer.header.unwrap_or_default().member_id,
            leader: answer.leader,
        })
    }
}

impl KeyClient for EtcdClient {
    async fn put(&mut self, key: &str, value: &Bytes) -> Result<(), CallError> {
        self.keys.put(put_request(key, value)).await.map(drop).map_err(refused)
    }

    async fn get(&mut self, key: &str, reading: Reading) -> Result<(), CallError> {
        let answer = self
            .keys
            .range(range_request(key, reading))
            .await
            .map_err(refused)?
            .into_inner();
        match answer.count {
            1 => Ok(()),
            _ => Err(CallError::Refused(format!("there is no key {key}"))),
        }
    }
}

/// Receives a snapshot of a member's whole state, on a connection of its own, piece by piece, never held whole; bytes.
pub async fn count_snapshot(address: &str) -> Result<u64, CallError> {
    let widened = |endpoint: Endpoint| {
        endpoint
            .initial_stream_window_size(SNAPSHOT_WINDOW_BYTES)
            .initial_connection_window_size(SNAPSHOT_WINDOW_BYTES)
    };
    let mut maintenance = MaintenanceClient::new(connected(address, widened).await?);
    let answer = maintenance.snapshot(SnapshotRequest {}).await.map_err(refused)?;
    let (mut pieces, mut bytes, mut remaining) = (answer.into_inner(), 0, None);
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        bytes += piece.blob.len() as u64;
        remaining = Some(piece.remaining_bytes);
    }
    match remaining {
        Some(0) => Ok(bytes),
        Some(more) => Err(CallError::Lost(format!("the snapshot ended {more} bytes too early"))),
        None => Err(CallError::Lost("the snapshot is empty".to_owned())),
    }
}

async fn connected(address: &str, with: impl FnOnce(Endpoint) -> Endpoint) -> Result<Channel, CallError> {
    let not_connected = |error: tonic::transport::Error| CallError::NotConnected {
        address: address.to_owned(),
        why: error.to_string(),
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(not_connected)?;
    let endpoint = endpoint.tcp_nodelay(true).connect_timeout(CONNECT);
    with(endpoint).connect().await.map_err(not_connected)
}

/// Writes a value.
pub(super) fn put_request(key: &str, value: &Bytes) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.clone(),
    }
}

/// Reads one key.
pub(super) fn range_request(key: &str, reading: Reading) -> RangeRequest {
    RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::new(),
        limit: 0,
        serializable: reading == Reading::Local,
    }
}

fn refused(status: Status) -> CallError {
    CallError::Refused(status.to_string())
}
