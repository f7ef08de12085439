//! HTTP/1.1 for closed loops: one request as one write, one answer whole, buffers kept. What a general client does beside that would be
//! measured as if it were the server's.

use std::io::Write as _;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::{connected, said};
use super::{CallError, KeyClient, Reading};

/// Fields of an answer's head.
const FIELDS_MAX: usize = 32;
/// An answer's head, bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// A receive, bytes at most, where the answer is small, and where it is a list.
const RECEIVE_BYTES: usize = 16 << 10;
const RECEIVE_BYTES_OF_LISTS: usize = 256 << 10;
/// Behind each chunk of a body.
const CHUNK_END_BYTES: u64 = 2;

/// One connection to one node.
#[derive(Debug)]
pub struct LeanHttpClient {
    address: String,
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What an answer's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Of itself, bytes.
    head_bytes: usize,
    body: Body,
}

/// How long what follows a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Bytes.
    Whole(usize),
    /// Each chunk says it of itself.
    Chunked,
}

impl LeanHttpClient {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<LeanHttpClient, CallError> {
        Ok(LeanHttpClient {
            address: address.to_owned(),
            stream: connected(address).await?,
            request: Vec::new(),
            answer: Vec::new(),
        })
    }

    /// A GET whose body is received and counted, piece by piece, never held whole; bytes.
    pub async fn count(&mut self, path: &str) -> Result<u64, CallError> {
        self.send("GET", path, "", &[]).await?;
        let head = self.head().await?;
        let bytes = match head.body {
            Body::Whole(bytes) if head.is_success() => {
                self.answer.drain(..head.head_bytes);
                self.pass_over(bytes as u64).await?;
                bytes as u64
            }
            Body::Whole(bytes) => return Err(self.refused(path, head, bytes).await),
            Body::Chunked => {
                self.answer.drain(..head.head_bytes);
                self.pass_over_chunks().await?
            }
        };
        match head.is_success() {
            true => Ok(bytes),
            false => Err(CallError::Refused(said(path, head.status, b"a long answer"))),
        }
    }

    /// Sends a request and receives its answer; one that is no success is an error.
    async fn ask(&mut self, method: &str, path: &str, parameters: &str, body: &[u8]) -> Result<(), CallError> {
        self.send(method, path, parameters, body).await?;
        let head = self.head().await?;
        let Body::Whole(bytes) = head.body else {
            return Err(no_answer("it does not say its length"));
        };
        if !head.is_success() {
            return Err(self.refused(path, head, bytes).await);
        }
        while self.answer.len() < head.head_bytes + bytes {
            self.receive(RECEIVE_BYTES).await?;
        }
        Ok(())
    }

    async fn send(&mut self, method: &str, path: &str, parameters: &str, body: &[u8]) -> Result<(), CallError> {
        let LeanHttpClient { address, request, .. } = self;
        request.clear();
        let length = body.len();
        // A vector takes whatever is written to it.
        let _ = write!(
            request,
            "{method} {path}{parameters} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n"
        );
        request.extend_from_slice(body);
        self.stream.write_all(&self.request).await.map_err(lost)
    }

    async fn head(&mut self) -> Result<Head, CallError> {
        self.answer.clear();
        loop {
            self.receive(RECEIVE_BYTES).await?;
            match head_of(&self.answer)? {
                Some(head) => return Ok(head),
                None if self.answer.len() > HEAD_BYTES_MAX => return Err(no_answer("its head has no end")),
                None => {}
            }
        }
    }

    async fn refused(&mut self, path: &str, head: Head, bytes: usize) -> CallError {
        while self.answer.len() < head.head_bytes + bytes {
            if let Err(error) = self.receive(RECEIVE_BYTES).await {
                return error;
            }
        }
        CallError::Refused(said(path, head.status, &self.answer[head.head_bytes..]))
    }

    async fn pass_over_chunks(&mut self) -> Result<u64, CallError> {
        let mut all = 0;
        loop {
            let size = httparse::parse_chunk_size(&self.answer).map_err(|_| no_answer("a chunk without a size"))?;
            let httparse::Status::Complete((size_bytes, chunk)) = size else {
                self.receive(RECEIVE_BYTES_OF_LISTS).await?;
                continue;
            };
            self.answer.drain(..size_bytes);
            self.pass_over(chunk + CHUNK_END_BYTES).await?;
            if chunk == 0 {
                return Ok(all);
            }
            all += chunk;
        }
    }

    /// Receives so many bytes and lets go of them.
    async fn pass_over(&mut self, mut bytes: u64) -> Result<(), CallError> {
        loop {
            let there = (self.answer.len() as u64).min(bytes);
            self.answer.drain(..there as usize);
            bytes -= there;
            if bytes == 0 {
                return Ok(());
            }
            self.receive(RECEIVE_BYTES_OF_LISTS).await?;
        }
    }

    async fn receive(&mut self, bytes: usize) -> Result<(), CallError> {
        self.answer.reserve(bytes);
        match self.stream.read_buf(&mut self.answer).await.map_err(lost)? {
            0 => Err(no_answer("the connection was closed")),
            _ => Ok(()),
        }
    }
}

impl Head {
    fn is_success(self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl KeyClient for LeanHttpClient {
    async fn put(&mut self, key: &str, value: &Bytes) -> Result<(), CallError> {
        self.ask("PUT", &format!("/v2/kv/{key}"), "", value).await
    }

    async fn get(&mut self, key: &str, reading: Reading) -> Result<(), CallError> {
        let parameters = match reading {
            Reading::Linearizable => "",
            Reading::Local => "?consistency=stale",
        };
        self.ask("GET", &format!("/v2/kv/{key}"), parameters, &[]).await
    }
}

/// The head of an answer, once it is there whole.
fn head_of(answer: &[u8]) -> Result<Option<Head>, CallError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(answer).map_err(|error| no_answer(&error.to_string()))?;
    let httparse::Status::Complete(head_bytes) = parsed else {
        return Ok(None);
    };
    let field = |name: &str| {
        let mut fields = response.headers.iter();
        let found = fields.find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let length = field("content-length").and_then(|length| length.trim().parse().ok());
    let is_chunked = field("transfer-encoding").is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("chunked"));
    let body = match length {
        Some(bytes) => Body::Whole(bytes),
        None if is_chunked => Body::Chunked,
        None => return Err(no_answer("it does not say its length")),
    };
    Ok(Some(Head {
        status: response.code.unwrap_or_default(),
        head_bytes,
        body,
    }))
}

fn no_answer(why: &str) -> CallError {
    CallError::Lost(why.to_owned())
}

fn lost(error: std::io::Error) -> CallError {
    CallError::Lost(error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A head is read once it is whole, whatever the case of its fields; one without a length is none.
    #[test]
    fn heads_are_read_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(head_of(&answer[..20]).ok(), Some(None));
        let head = Head {
            status: 200,
            head_bytes: answer.len() - 5,
            body: Body::Whole(5),
        };
        assert_eq!(head_of(answer).ok(), Some(Some(head)));
        assert!(head_of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(head_of(b"no answer at all\r\n\r\n").is_err());
    }

    /// A list's chunks are counted, wherever they are cut on the way, and the next answer begins behind them.
    #[tokio::test]
    async fn chunks_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let list = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";
            let short = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
            for (answer, piece) in [(list, 1), (list, 7), (short, 100), (list, 1_000)] {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.expect("a request") > 0);
                for piece in answer.as_bytes().chunks(piece) {
                    stream.write_all(piece).await.expect("a client");
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut client = LeanHttpClient::connect(&address).await.expect("a server");
        for bytes in [31, 31, 3, 31] {
            assert_eq!(client.count("/list").await.expect("answered"), bytes);
        }
        served.await.expect("no panic");
    }

    /// An answer that comes in pieces is received to its end before the next request; a refusal is told; a closed connection is an error.
    #[tokio::test]
    async fn answers_come_in_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut seen = Vec::new();
            for pieces in [
                ["HTTP/1.1 204 No Content\r\nconte", "nt-length: 3\r\n\r\nab", "c"],
                ["HTTP/1.1 503 Unavailable\r\n", "content-length: 4\r\n\r\n", "busy"],
            ] {
                let mut request = [0; 1024];
                let received = stream.read(&mut request).await.expect("a request");
                seen.push(String::from_utf8_lossy(&request[..received]).into_owned());
                for piece in pieces {
                    stream.write_all(piece.as_bytes()).await.expect("a client");
                    tokio::task::yield_now().await;
                }
            }
            seen
        });
        let mut client = LeanHttpClient::connect(&address).await.expect("a server");
        client.put("a", &Bytes::from_static(b"value")).await.expect("answered");
        let refused = client.get("b", Reading::Local).await.expect_err("refused");
        assert!(refused.to_string().contains("503 busy"), "{refused}");
        let seen = served.await.expect("no panic");
        assert_eq!(
            seen,
            [
                format!("PUT /v2/kv/a HTTP/1.1\r\nhost: {address}\r\ncontent-length: 5\r\n\r\nvalue"),
                format!("GET /v2/kv/b?consistency=stale HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n"),
            ]
        );
        let closed = client.get("c", Reading::Local).await.expect_err("closed");
        assert!(matches!(closed, CallError::Lost(_)), "{closed}");
    }
}
