//! HTTP/1.1 on a kept connection, by the library that users have.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{CallError, KeyClient, Reading};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Of an answer that is no success, so much is told, bytes.
const SAID_BYTES_MAX: usize = 300;

/// One connection to one node.
#[derive(Debug)]
pub struct HttpClient {
    address: String,
    sender: SendRequest<Full<Bytes>>,
}

/// An answer without an end, line by line.
#[derive(Debug)]
pub struct HttpStream {
    body: Incoming,
    received: Vec<u8>,
}

impl HttpClient {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<HttpClient, CallError> {
        let (sender, connection) = handshake(TokioIo::new(connected(address).await?))
            .await
            .map_err(|error| not_connected(address, error))?;
        // Ends with its client; what goes wrong on it, the request under way is told.
        tokio::task::spawn_local(connection);
        Ok(HttpClient {
            address: address.to_owned(),
            sender,
        })
    }

    /// Sends a request; an answer that is no success is an error.
    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, CallError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.address)
            .body(Full::new(body))
            .map_err(|error| CallError::Lost(error.to_string()))?;
        // A connection that was closed meanwhile: nothing is sent.
        let ready = self.sender.ready().await;
        ready.map_err(|error| not_connected(&self.address, error))?;
        successful(path, self.sender.send_request(request).await.map_err(lost)?).await
    }

    /// A GET whose body is received and counted, piece by piece, never held whole; bytes.
    pub async fn count(&mut self, path: &str) -> Result<u64, CallError> {
        let mut body = self.send(Method::GET, path, Bytes::new()).await?.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.map_err(lost)?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }

    /// A GET whose body is wanted.
    pub async fn get_whole(&mut self, path: &str) -> Result<Bytes, CallError> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(answer.into_body().collect().await.map_err(lost)?.to_bytes())
    }

    /// A POST of JSON; its answer.
    pub async fn post(&mut self, path: &str, body: &serde_json::Value) -> Result<Bytes, CallError> {
        let body = Bytes::from(body.to_string());
        let answer = self.send(Method::POST, path, body).await?;
        Ok(answer.into_body().collect().await.map_err(lost)?.to_bytes())
    }

    /// A GET whose answer goes on for ever.
    pub async fn stream(mut self, path: &str) -> Result<HttpStream, CallError> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(HttpStream::of(answer))
    }
}

pub(super) async fn connected(address: &str) -> Result<TcpStream, CallError> {
    let stream = timeout(CONNECT, TcpStream::connect(address)).await;
    let stream = stream.map_err(|_| not_connected(address, format!("not within {CONNECT:?}")))?;
    let stream = stream.map_err(|error| not_connected(address, error))?;
    let undelayed = stream.set_nodelay(true);
    undelayed.map_err(|error| not_connected(address, error))?;
    Ok(stream)
}

fn not_connected(address: &str, why: impl ToString) -> CallError {
    CallError::NotConnected {
        address: address.to_owned(),
        why: why.to_string(),
    }
}

/// An answer that is a success; any other is an error.
async fn successful(path: &str, answer: Response<Incoming>) -> Result<Response<Incoming>, CallError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.into_body().collect().await.map_err(lost)?.to_bytes();
    Err(CallError::Refused(said(path, status.as_u16(), &body)))
}

/// An answer that is no success, in words.
pub(super) fn said(path: &str, status: u16, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(&body[..body.len().min(SAID_BYTES_MAX)]);
    format!("{path}: {status} {body}")
}

impl HttpStream {
    fn of(answer: Response<Incoming>) -> HttpStream {
        HttpStream {
            body: answer.into_body(),
            received: Vec::new(),
        }
    }

    /// What came next, up to the end of its last whole line. An error where the stream ends.
    pub async fn lines(&mut self) -> Result<Vec<u8>, CallError> {
        loop {
            if let Some(end) = self.received.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.received.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.received, rest));
            }
            let frame = self.body.frame().await;
            let frame = frame.ok_or_else(|| CallError::Lost("the stream ended".to_owned()))?;
            if let Some(data) = frame.map_err(lost)?.data_ref() {
                self.received.extend_from_slice(data);
            }
        }
    }
}

impl KeyClient for HttpClient {
    async fn put(&mut self, key: &str, value: &Bytes) -> Result<(), CallError> {
        let answer = self.send(Method::PUT, &format!("/v2/kv/{key}"), value.clone()).await?;
        answer.into_body().collect().await.map_err(lost)?;
        Ok(())
    }

    async fn get(&mut self, key: &str, reading: Reading) -> Result<(), CallError> {
        let path = match reading {
            Reading::Linearizable => format!("/v2/kv/{key}"),
            Reading::Local => format!("/v2/kv/{key}?consistency=stale"),
        };
        self.count(&path).await.map(drop)
    }
}

/// A GET on a connection of its own.
pub async fn get_once(address: &str, path: &str) -> Result<Bytes, CallError> {
    HttpClient::connect(address).await?.get_whole(path).await
}

fn lost(error: hyper::Error) -> CallError {
    CallError::Lost(error.to_string())
}
