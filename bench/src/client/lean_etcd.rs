//! etcd's puts and gets for closed loops: gRPC over the frames of [`super::frames`].

use bytes::Bytes;
use prost::Message;

use super::etcd::{put_request, range_request};
use super::frames::{Connection, Kind};
use super::{CallError, KeyClient, Reading};
use crate::protocol::RangeResponse;

/// Before each message: whether it is compressed, and its length.
pub const PREFIX_BYTES: usize = 5;
const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

/// One connection to one member.
#[derive(Debug)]
pub struct LeanEtcdClient {
    address: String,
    connection: Connection,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// The fields of a gRPC request.
pub fn fields<'a>(address: &'a str, path: &'a str) -> [(&'a str, &'a str); 6] {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", address),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
}

/// Writes a message with its prefix behind what is there.
pub fn enclose(message: &impl Message, bytes: &mut Vec<u8>) {
    bytes.push(0);
    bytes.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
    // A vector takes whatever is written to it.
    let _ = message.encode(bytes);
}

impl LeanEtcdClient {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<LeanEtcdClient, CallError> {
        Ok(LeanEtcdClient {
            address: address.to_owned(),
            connection: Connection::open(address).await?,
            request: Vec::new(),
            answer: Vec::new(),
        })
    }

    /// Asks and receives one message. Where something fails no message comes.
    async fn ask(&mut self, path: &str, message: &impl Message) -> Result<&[u8], CallError> {
        self.request.clear();
        enclose(message, &mut self.request);
        let fields = fields(&self.address, path);
        let stream = self.connection.request(&fields, &self.request, true).await?;
        self.answer.clear();
        loop {
            let frame = self.connection.next().await?;
            if frame.kind == Kind::Data {
                self.answer.extend_from_slice(self.connection.payload(&frame));
            }
            if frame.stream == stream && frame.ends {
                break;
            }
        }
        let refused = || CallError::Refused(format!("{path}: no message came"));
        self.answer.get(PREFIX_BYTES..).ok_or_else(refused)
    }
}

impl KeyClient for LeanEtcdClient {
    async fn put(&mut self, key: &str, value: &Bytes) -> Result<(), CallError> {
        self.ask(PUT, &put_request(key, value)).await.map(drop)
    }

    async fn get(&mut self, key: &str, reading: Reading) -> Result<(), CallError> {
        let answer = RangeResponse::decode(self.ask(RANGE, &range_request(key, reading)).await?);
        match answer.map(|answer| answer.count) {
            Ok(1) => Ok(()),
            Ok(_) => Err(CallError::Refused(format!("there is no key {key}"))),
            Err(error) => Err(CallError::Lost(error.to_string())),
        }
    }
}
