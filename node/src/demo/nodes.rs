//! Asking whichever node answers, as a client of a cluster does.

use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;

/// How long one node may take to answer.
const ANSWER_SECONDS_MAX: u64 = 10;
/// How often all nodes are asked before a request is given up: a leader may just have died.
const ROUNDS_MAX: usize = 30;
/// Between two rounds.
const ROUND_MS: u64 = 200;

/// The nodes, by URL.
pub struct Nodes {
    urls: Vec<String>,
    client: reqwest::Client,
}

impl Nodes {
    /// Asks these.
    pub fn new(urls: Vec<String>) -> Nodes {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(ANSWER_SECONDS_MAX))
            .build()
            .expect("a client without TLS needs nothing that could be missing");
        Nodes { urls, client }
    }

    /// Where they are.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The HTTP client.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// What keeps each node that is not ready, or has not seen the fleet.
    pub async fn not_ready(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        for url in &self.urls {
            match self
                .ask(self.client.get(format!("{url}/readyz?require=reconciled")))
                .await
            {
                Ok((200, _)) => {}
                Ok((status, body)) => waiting.push(format!("{url}: {status}: {}", body.trim().replace('\n', "; "))),
                Err(error) => waiting.push(format!("{error:#}")),
            }
        }
        waiting
    }

    /// A GET of JSON, from the first node that answers well.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.first(|url| self.client.get(format!("{url}{path}"))).await
    }

    /// A GET of JSON from one node.
    pub async fn get_from(&self, url: &str, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.ask(self.client.get(format!("{url}{path}"))).await?;
        read(url, status, &body)
    }

    /// A PUT of JSON, to the first node that takes it. Putting twice is as putting once.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.first(|url| self.client.put(format!("{url}{path}")).json(body))
            .await
    }

    async fn first(&self, request: impl Fn(&str) -> reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let mut last = anyhow!("there is no node");
        for _ in 0..ROUNDS_MAX {
            for url in &self.urls {
                match self.ask(request(url)).await {
                    Ok((status, body)) if (400..500).contains(&status) && status != 429 => {
                        return read(url, status, &body);
                    }
                    Ok((status, body)) => match read(url, status, &body) {
                        Ok(value) => return Ok(value),
                        Err(error) => last = error,
                    },
                    Err(error) => last = error,
                }
            }
            tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
        }
        Err(last)
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> anyhow::Result<(u16, String)> {
        let answer = request.timeout(Duration::from_secs(ANSWER_SECONDS_MAX)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

fn read(url: &str, status: u16, body: &str) -> anyhow::Result<Value> {
    if !(200..300).contains(&status) {
        return Err(anyhow!("{url} answers {status}: {body}"));
    }
    serde_json::from_str(body).with_context(|| format!("{url} answers no JSON"))
}
