//! A client as users should write theirs: where one node does not answer well in time, it asks another, once.

use std::time::Duration;

use rand::Rng;
use reqwest::Method;
use serde_json::Value;

/// How long one attempt may take.
pub const ATTEMPT: Duration = Duration::from_secs(2);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Before another node is asked, milliseconds: clients that lost the same node do not all come at once.
const PAUSE_MS: std::ops::Range<u64> = 10..50;

/// A node as its users know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Also the name of its service.
    pub name: String,
    /// `http://host:port`.
    pub url: String,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The verb.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Of a write: makes the second attempt safe.
    pub idempotency_key: Option<String>,
    /// Of a write.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// A read.
    pub fn get(path: impl Into<String>) -> Request {
        Request {
            method: Method::GET,
            path: path.into(),
            idempotency_key: None,
            body: None,
        }
    }

    /// A write that may be said twice.
    pub fn put(path: impl Into<String>, idempotency_key: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
        Request {
            method: Method::PUT,
            path: path.into(),
            idempotency_key: Some(idempotency_key.into()),
            body: Some(body.into()),
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// Of the state it speaks of (`X-Blox-Revision`).
    pub revision: u64,
    /// Of the key it speaks of (`X-Blox-Mod-Revision`).
    pub mod_revision: u64,
    /// As it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// No answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing was sent: the node has not seen the request.
    #[error("no connection: {0}")]
    NotSent(String),
    /// The request may have had its effect.
    #[error("no answer: {0}")]
    Lost(String),
}

/// Sends requests to nodes.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    /// Attempts take [`ATTEMPT`] at most.
    pub fn new() -> Result<Client, reqwest::Error> {
        Client::with_deadline(Some(ATTEMPT))
    }

    /// `None`: for streams.
    pub fn with_deadline(deadline: Option<Duration>) -> Result<Client, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT);
        let builder = match deadline {
            Some(deadline) => builder.timeout(deadline),
            None => builder,
        };
        Ok(Client { http: builder.build()? })
    }

    /// One attempt.
    pub async fn ask(&self, node: &Node, request: &Request) -> Result<Answer, NoAnswer> {
        let answer = self.open(node, request).await?;
        let number = |name: &str| {
            let text = answer.headers().get(name).and_then(|value| value.to_str().ok());
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let (status, revision, mod_revision) = (
            answer.status().as_u16(),
            number("x-blox-revision"),
            number("x-blox-mod-revision"),
        );
        let body = answer
            .bytes()
            .await
            .map_err(|error| NoAnswer::Lost(innermost(&error)))?
            .to_vec();
        Ok(Answer {
            status,
            revision,
            mod_revision,
            body,
        })
    }

    /// One attempt whose answer is read piece by piece.
    pub async fn open(&self, node: &Node, request: &Request) -> Result<reqwest::Response, NoAnswer> {
        let mut sent = self
            .http
            .request(request.method.clone(), format!("{}{}", node.url, request.path));
        if let Some(key) = &request.idempotency_key {
            sent = sent.header("idempotency-key", key);
        }
        if let Some(body) = &request.body {
            sent = sent.body(body.clone());
        }
        sent.send().await.map_err(|error| {
            if error.is_connect() {
                NoAnswer::NotSent(innermost(&error))
            } else {
                NoAnswer::Lost(innermost(&error))
            }
        })
    }

    /// A GET that answers JSON with success.
    pub async fn get_json(&self, node: &Node, path: &str) -> Result<Value, String> {
        let url = || format!("{}{path}", node.url);
        let answer = self
            .ask(node, &Request::get(path))
            .await
            .map_err(|error| format!("{}: {error}", url()))?;
        if !answer.is_success() {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(format!("{} answers {}: {}", url(), answer.status, text.trim()));
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("{}: {error}", url()))
    }

    /// The pause before another node is asked.
    pub async fn pause() {
        let pause_ms = rand::rng().random_range(PAUSE_MS);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

/// What an error says innermost: most.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answers(text: &'static str) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = connection.read(&mut request).await;
                let _ = connection.write_all(text.as_bytes()).await;
            }
        });
        Node {
            name: "n".to_owned(),
            url,
        }
    }

    /// What was never sent is told from what may have had its effect, and an answer is read with its revisions.
    #[tokio::test]
    async fn outcomes_are_told_apart() {
        let client = Client::new().expect("a client without TLS can be built");
        // One that was bound and closed may still be held by a process that another test has just forked.
        let nobody = Node {
            name: "n".to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
        };
        let write = Request::put("/v2/kv/k", "k", "v");
        assert!(matches!(client.ask(&nobody, &write).await, Err(NoAnswer::NotSent(_))));
        let broken = answers("").await;
        assert!(matches!(client.ask(&broken, &write).await, Err(NoAnswer::Lost(_))));
        let well =
            answers("HTTP/1.1 200 OK\r\nx-blox-revision: 9\r\nx-blox-mod-revision: 7\r\ncontent-length: 2\r\n\r\n{}")
                .await;
        let answer = client.ask(&well, &write).await.expect("answered");
        assert_eq!((answer.status, answer.revision, answer.mod_revision), (200, 9, 7));
    }
}
