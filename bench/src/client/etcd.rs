//! etcd's v3 protocol, by the same gRPC library that Blox's nodes speak with each other.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::{CallError, KeyClient, Reading};
use crate::protocol::kv_client::KvClient;
use crate::protocol::maintenance_client::MaintenanceClient;
use crate::protocol::watch_client::WatchClient;
use crate::protocol::watch_request::RequestUnion;
use crate::protocol::{PutRequest, RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest, WatchResponse};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
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

/// Keys that begin so, as etcd wants them said.
#[derive(Clone, Debug)]
pub struct KeyPrefix {
    first: Bytes,
    end: Bytes,
}

/// Changes of keys, as they come.
#[derive(Debug)]
pub struct EtcdWatch {
    answers: Streaming<WatchResponse>,
    /// While it is there, the watch goes on.
    _requests: mpsc::Sender<WatchRequest>,
}

impl EtcdClient {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<EtcdClient, CallError> {
        let not_connected = |error: tonic::transport::Error| CallError::NotConnected {
            address: address.to_owned(),
            why: error.to_string(),
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(not_connected)?;
        let endpoint = endpoint.tcp_nodelay(true).connect_timeout(CONNECT);
        let channel = endpoint.connect().await.map_err(not_connected)?;
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

    /// A watch of its own on this connection; it has begun when this returns.
    pub async fn watch(&self, prefix: &KeyPrefix) -> Result<EtcdWatch, CallError> {
        let (sender, requests) = mpsc::channel(1);
        let create = RequestUnion::CreateRequest(WatchCreateRequest {
            key: prefix.first.clone(),
            range_end: prefix.end.clone(),
            start_revision: 0,
        });
        let request = WatchRequest {
            request_union: Some(create),
        };
        // It has room for one, and is empty.
        let _ = sender.send(request).await;
        let mut client = WatchClient::new(self.channel.clone());
        let answers = client.watch(ReceiverStream::new(requests)).await.map_err(refused)?;
        let mut watch = EtcdWatch {
            answers: answers.into_inner(),
            _requests: sender,
        };
        let first = watch.next().await?;
        if first.created && !first.canceled {
            return Ok(watch);
        }
        Err(CallError::Refused(format!("a watch is answered with {first:?}")))
    }
}

impl EtcdWatch {
    /// What came next.
    pub async fn next(&mut self) -> Result<WatchResponse, CallError> {
        let answer = self.answers.message().await.map_err(refused)?;
        answer.ok_or_else(|| CallError::Lost("the watch ended".to_owned()))
    }
}

impl KeyPrefix {
    /// Every key that begins with this text, which must not be empty.
    pub fn new(text: &str) -> KeyPrefix {
        let mut end = text.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            // Text is UTF-8: no byte of it is the last there is.
            *last += 1;
        }
        KeyPrefix {
            first: Bytes::copy_from_slice(text.as_bytes()),
            end: end.into(),
        }
    }
}

impl KeyClient for EtcdClient {
    async fn put(&mut self, key: &str, value: &Bytes) -> Result<(), CallError> {
        let request = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: value.clone(),
        };
        self.keys.put(request).await.map(drop).map_err(refused)
    }

    async fn get(&mut self, key: &str, reading: Reading) -> Result<(), CallError> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::new(),
            limit: 0,
            serializable: reading == Reading::Local,
        };
        let answer = self.keys.range(request).await.map_err(refused)?.into_inner();
        match answer.count {
            1 => Ok(()),
            _ => Err(CallError::Refused(format!("there is no key {key}"))),
        }
    }
}

fn refused(status: Status) -> CallError {
    CallError::Refused(status.to_string())
}
