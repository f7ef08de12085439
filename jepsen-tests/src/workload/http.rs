//! One attempt at one node, and what its outcome means. Pure but for [`Http::ask`].

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::check::history::Phase;
use crate::client::{NoAnswer, Node, innermost};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Of an answer that is no success, so much is told, bytes.
const SAID_BYTES_MAX: usize = 300;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The verb.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// Empty: none.
    pub body: Vec<u8>,
    /// How long it is waited for.
    pub patience: Duration,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP's.
    pub status: u16,
    /// Of the state it speaks of (`X-Blox-Revision`).
    pub revision: u64,
    /// Of the key it speaks of (`X-Blox-Mod-Revision`).
    pub mod_revision: u64,
    /// How often that key was written since it was made (`X-Blox-Version`).
    pub version: u64,
    /// The answer was given before, to an earlier request (`X-Blox-Replayed`).
    pub replayed: bool,
    /// As it came.
    pub body: Vec<u8>,
}

/// What came of an attempt.
pub type Answer = Result<Reply, NoAnswer>;

impl Ask {
    /// A read.
    pub fn get(path: impl Into<String>, patience: Duration) -> Ask {
        Ask {
            method: Method::GET,
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            patience,
        }
    }

    /// A write.
    pub fn put(path: impl Into<String>, body: impl Into<Vec<u8>>, patience: Duration) -> Ask {
        Ask {
            method: Method::PUT,
            body: body.into(),
            ..Ask::get(path, patience)
        }
    }

    /// A deletion.
    pub fn delete(path: impl Into<String>, patience: Duration) -> Ask {
        Ask {
            method: Method::DELETE,
            ..Ask::get(path, patience)
        }
    }

    /// Only if the key is at this mod revision; 0: absent.
    pub fn if_at(mut self, revision: u64) -> Ask {
        self.headers.push(("if-match", format!("\"{revision}\"")));
        self
    }

    /// Under a key that makes repeating it safe.
    pub fn idempotent(mut self, key: impl Into<String>) -> Ask {
        self.headers.push(("idempotency-key", key.into()));
        self
    }
}

impl Reply {
    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The code of a problem; empty where it is none.
    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Of a write that was refused: the mod revision at which its key was then, 0 = absent, if it says so. Not of an answer that was given before.
    pub fn observed(&self, method: &Method) -> Option<u64> {
        match (self.status, self.code().as_str()) {
            _ if self.replayed || *method == Method::GET => None,
            (412, "precondition_failed") => self.json()["current_revision"].as_u64(),
            (404, "key_missing") => Some(0),
            _ => None,
        }
    }

    /// Status and the beginning of the body, for people.
    pub fn said(&self) -> String {
        let end = self.body.len().min(SAID_BYTES_MAX);
        let text = String::from_utf8_lossy(&self.body[..end]);
        format!("{} {}", self.status, text.trim())
    }
}

/// What is known of a write's effect. As the manual says (docs/operations/failures.md, "Requests are refused"): with these codes nothing was written.
pub fn phase_of_write(answer: &Answer) -> Phase {
    const NOT_WRITTEN: [&str; 5] = ["no_leader", "stopping", "behind", "not_a_member", "ecs_unavailable"];
    match answer {
        Ok(reply) if reply.is_success() => Phase::Ok,
        Ok(reply) if (400..500).contains(&reply.status) => Phase::Fail,
        Ok(reply) if reply.status == 503 && NOT_WRITTEN.contains(&reply.code().as_str()) => Phase::Fail,
        Ok(reply) if reply.status == 507 && reply.code() == "disk_full" => Phase::Fail,
        Ok(_) | Err(NoAnswer::Lost(_)) => Phase::Info,
        Err(NoAnswer::NotSent(_)) => Phase::Fail,
    }
}

/// A read has no effect: it was answered well, or it failed.
pub fn phase_of_read(answer: &Answer) -> Phase {
    match answer {
        Ok(reply) if reply.is_success() => Phase::Ok,
        _ => Phase::Fail,
    }
}

/// What was said instead of a good answer.
pub fn why(answer: &Answer) -> String {
    match answer {
        Ok(reply) => reply.said(),
        Err(error) => error.to_string(),
    }
}

/// Sends requests to nodes; connections are kept.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
}

impl Http {
    /// Nothing is repeated by itself.
    pub fn new() -> Result<Http, reqwest::Error> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .build()?;
        Ok(Http { client })
    }

    /// One attempt, its answer whole.
    pub async fn ask(&self, node: &Node, ask: &Ask) -> Answer {
        let answer = self.request(node, ask).timeout(ask.patience).send().await;
        let answer = answer.map_err(no_answer)?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| header(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (revision, mod_revision, version) = (
            number("x-blox-revision"),
            number("x-blox-mod-revision"),
            number("x-blox-version"),
        );
        let replayed = header("x-blox-replayed") == Some("true");
        let status = answer.status().as_u16();
        let body = answer
            .bytes()
            .await
            .map_err(|error| NoAnswer::Lost(innermost(&error)))?;
        Ok(Reply {
            status,
            revision,
            mod_revision,
            version,
            replayed,
            body: body.to_vec(),
        })
    }

    /// One attempt whose answer is read piece by piece; only its beginning is waited for with patience.
    pub async fn open(&self, node: &Node, ask: &Ask) -> Result<reqwest::Response, NoAnswer> {
        match tokio::time::timeout(ask.patience, self.request(node, ask).send()).await {
            Ok(answer) => answer.map_err(no_answer),
            Err(_) => Err(NoAnswer::Lost("it does not begin".to_owned())),
        }
    }

    fn request(&self, node: &Node, ask: &Ask) -> reqwest::RequestBuilder {
        let mut request = self
            .client
            .request(ask.method.clone(), format!("{}{}", node.url, ask.path));
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if ask.method != Method::GET {
            request = request.body(ask.body.clone());
        }
        request
    }
}

fn no_answer(error: reqwest::Error) -> NoAnswer {
    if error.is_connect() {
        NoAnswer::NotSent(innermost(&error))
    } else {
        NoAnswer::Lost(innermost(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Answer {
        Ok(Reply {
            status,
            revision: 0,
            mod_revision: 0,
            version: 0,
            replayed: false,
            body: body.as_bytes().to_vec(),
        })
    }

    /// Only what the manual says was not written counts as failed; everything else that is no success is unknown.
    #[test]
    fn outcomes_of_writes() {
        let problem = |code: &str| format!(r#"{{"code":"{code}"}}"#);
        for (answer, phase) in [
            (reply(200, "{}"), Phase::Ok),
            (reply(412, &problem("precondition_failed")), Phase::Fail),
            (reply(429, &problem("overloaded")), Phase::Fail),
            (reply(503, &problem("no_leader")), Phase::Fail),
            (reply(503, &problem("stopping")), Phase::Fail),
            (reply(503, "upstream is away"), Phase::Info),
            (reply(507, &problem("disk_full")), Phase::Fail),
            (reply(507, ""), Phase::Info),
            (reply(504, &problem("outcome_unknown")), Phase::Info),
            (reply(504, &problem("deadline_exceeded")), Phase::Info),
            (reply(500, &problem("internal")), Phase::Info),
            (Err(NoAnswer::Lost("reset".to_owned())), Phase::Info),
            (Err(NoAnswer::NotSent("refused".to_owned())), Phase::Fail),
        ] {
            assert_eq!(phase_of_write(&answer), phase, "{answer:?}");
        }
    }

    /// What refusals say of the key.
    #[test]
    fn refusals_tell_a_revision() {
        let observed = |status, body: &str, method| reply(status, body).expect("an answer").observed(&method);
        let precondition = r#"{"code":"precondition_failed","current_revision":7}"#;
        assert_eq!(observed(412, precondition, Method::PUT), Some(7));
        assert_eq!(observed(404, r#"{"code":"key_missing"}"#, Method::DELETE), Some(0));
        assert_eq!(observed(404, r#"{"code":"key_missing"}"#, Method::GET), None);
        assert_eq!(observed(503, r#"{"code":"no_leader"}"#, Method::PUT), None);
    }

    /// A read that was not answered well had no effect.
    #[test]
    fn outcomes_of_reads() {
        assert_eq!(phase_of_read(&reply(200, "")), Phase::Ok);
        assert_eq!(phase_of_read(&Err(NoAnswer::Lost("reset".to_owned()))), Phase::Fail);
        assert_eq!(phase_of_read(&reply(503, "")), Phase::Fail);
    }
}
