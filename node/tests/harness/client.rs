//! A client as users should write theirs: where one node does not answer well, it asks another, once.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(20);

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> String {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// One series of a page of metrics, by its name and labels.
pub fn series(page: &str, name: &str) -> Option<f64> {
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

/// Asks nodes by URL.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// For streams: no deadline on the whole.
    pub streaming: reqwest::Client,
}

impl Client {
    pub fn new() -> Client {
        let build = || {
            reqwest::Client::builder()
                .no_proxy()
                .tcp_nodelay(true)
                .connect_timeout(Duration::from_secs(5))
        };
        Client {
            http: build()
                .timeout(ATTEMPT)
                .build()
                .expect("a client without TLS can be built"),
            streaming: build().build().expect("a client without TLS can be built"),
        }
    }

    /// One request to one node.
    pub async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, String> {
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = request.send().await.map_err(|error| format!("{url}: {error:?}"))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer
            .bytes()
            .await
            .map_err(|error| format!("{url}: {error:?}"))?
            .to_vec();
        Ok(Answer { status, headers, body })
    }

    pub async fn get(&self, url: &str) -> Result<Answer, String> {
        self.ask(Method::GET, url, &[], None).await
    }

    /// A GET that must succeed.
    pub async fn get_json(&self, url: &str) -> Result<Value, String> {
        let answer = self.get(url).await?;
        if !answer.is_success() {
            return Err(format!("{url}: {} {}", answer.status, answer.text()));
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))
    }

    /// One series of the metrics page at this address, by its name and labels; `Err`: nobody answers, or there is no such series.
    pub async fn metric(&self, url: &str, name: &str) -> Result<f64, String> {
        let text = self.get(&format!("{url}/metrics")).await?.text();
        series(&text, name).ok_or_else(|| format!("{url} has no series {name}"))
    }

    pub async fn put_json(&self, url: &str, body: &Value) -> Result<Answer, String> {
        self.ask(
            Method::PUT,
            url,
            &[("content-type", "application/json")],
            Some(body.to_string().into_bytes()),
        )
        .await
    }
}
