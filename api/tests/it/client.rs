//! A plain HTTP/1.1 client that sends exactly what it is told and shows how a body ended.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// No answer takes longer; only a broken test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer's head.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
    /// The body ended as its framing promised.
    pub whole: bool,
}

/// One connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// What is left of the current chunk of a stream.
    line: Vec<u8>,
}

impl Head {
    /// A header's value; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body that is text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// `status body` for tables of errors.
    pub fn short(&self) -> String {
        format!("{} {}", self.status(), self.text())
    }
}

/// One request on a connection of its own.
pub async fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut connection = Connection::open(address).await;
    connection.send(method, path, headers, body).await;
    connection.answer(method).await
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("the connection is open");
        Connection {
            stream: BufReader::new(stream),
            line: Vec::new(),
        }
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send_raw(head.as_bytes()).await;
        self.send_raw(body).await;
    }

    /// Sends bytes as they are; that the server has closed already is for the reading side to see.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes).await;
    }

    pub async fn answer(&mut self, method: &str) -> Answer {
        let head = self.head().await;
        let (body, whole) = within(self.body(&head, method)).await;
        Answer { head, body, whole }
    }

    pub async fn head(&mut self) -> Head {
        within(self.read_head()).await.expect("an answer")
    }

    /// As `head`; `None`: the server closed the connection.
    pub async fn head_or_end(&mut self) -> Option<Head> {
        within(self.read_head()).await
    }

    async fn read_head(&mut self) -> Option<Head> {
        let status_line = self.read_line().await?;
        let status = status_line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                return Some(Head { status, headers });
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    async fn body(&mut self, head: &Head, method: &str) -> (Vec<u8>, bool) {
        if method == "HEAD" || head.status == 204 || head.status == 304 {
            return (Vec::new(), true);
        }
        if head.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            loop {
                match self.chunk().await {
                    Some(chunk) if chunk.is_empty() => return (body, true),
                    Some(chunk) => body.extend_from_slice(&chunk),
                    None => return (body, false),
                }
            }
        }
        let length = head
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        let whole = self.stream.read_exact(&mut body).await.is_ok();
        (body, whole)
    }

    /// The next chunk; empty: the last; `None`: the connection broke off.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.read_line().await?, 16).ok()?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).await.ok()?;
        chunk.truncate(length);
        Some(chunk)
    }

    /// The next line of a streamed body, without its end; `None`: the connection broke off, or (never in a stream) the body ended.
    pub async fn stream_line(&mut self) -> Option<String> {
        within(async {
            loop {
                if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                    let rest = self.line.split_off(end + 1);
                    let mut line = std::mem::replace(&mut self.line, rest);
                    line.pop();
                    return Some(String::from_utf8(line).expect("lines are text"));
                }
                let chunk = self.chunk().await?;
                assert!(!chunk.is_empty(), "the stream ended as if nothing had happened");
                self.line.extend_from_slice(&chunk);
            }
        })
        .await
    }

    /// The next line as JSON.
    pub async fn stream_json(&mut self) -> Value {
        let line = self.stream_line().await.expect("another line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    async fn read_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await.ok()?;
        line.pop()?;
        line.pop()?;
        String::from_utf8(line).ok()
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("the server answers in time")
}
