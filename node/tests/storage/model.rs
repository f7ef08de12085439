//! Users' keys as they were acknowledged: what any read, at whatever revision it says it stands, must say.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;

use crate::harness::{Answer, Client, Cluster, DEADLINE, Node, eventually};

/// The deadline of a write that must succeed sooner or later.
const WRITE: Duration = Duration::from_secs(30);

/// Every acknowledged value of every key, by revision.
#[derive(Default)]
pub struct Model {
    keys: BTreeMap<String, BTreeMap<u64, Vec<u8>>>,
    /// Of the last acknowledged write.
    pub revision: u64,
}

impl Model {
    /// Notes an acknowledged write.
    pub fn acknowledged(&mut self, key: &str, revision: u64, value: &[u8]) {
        let values = self.keys.entry(key.to_owned()).or_default();
        values.insert(revision, value.to_vec());
        self.revision = self.revision.max(revision);
    }

    /// Writes until some node acknowledges it. The same value under the same key twice is harmless, but changes the revision: an idempotency
    /// key makes the retry the same write.
    pub async fn put(&mut self, cluster: &Cluster, key: &str, value: &[u8]) {
        let token = format!("{key}-{}-{}", self.revision, value.len());
        let revision = eventually(key, WRITE, || async {
            let mut seen = Vec::new();
            for node in cluster.running() {
                match put(&cluster.client, node, key, value, Some(&token)).await {
                    Ok(answer) if answer.status == 200 => return Ok(revision(&answer)),
                    Ok(answer) => seen.push(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => seen.push(error),
                }
            }
            Err(seen.join("; "))
        })
        .await;
        self.acknowledged(key, revision, value);
    }

    /// How many keys there are.
    pub fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// The value of a key at a revision.
    fn at(&self, key: &str, revision: u64) -> Option<&[u8]> {
        let values = self.keys.get(key)?;
        values.range(..=revision).next_back().map(|(_, value)| value.as_slice())
    }

    /// Compares what a node answered to a read of a key with the truth at the revision it says; `Err`: it did not answer.
    pub fn judge(&self, node: &str, key: &str, answer: &Answer) -> Result<u64, String> {
        let found = match answer.status {
            200 => Some(answer.body.as_slice()),
            404 => None,
            status => return Err(format!("{status}: {}", answer.text())),
        };
        let revision = answer
            .header("x-blox-revision")
            .parse()
            .unwrap_or_else(|_| panic!("an answer without revision: {:?}", answer.headers));
        let expected = self.at(key, revision);
        assert!(
            found == expected,
            "node {node} says {key} = {} at revision {revision}, the truth is {}",
            shown(found),
            shown(expected)
        );
        Ok(revision)
    }

    /// Reads one key of a node, however old; `Err`: it did not answer.
    pub async fn read_stale(&self, client: &Client, node: &Node, key: &str) -> Result<u64, String> {
        let url = format!("{}/v2/kv/{key}?consistency=stale", node.url());
        self.judge(&node.name, key, &client.get(&url).await?)
    }

    /// Waits until a node holds everything acknowledged, and compares all of it.
    pub async fn holds(&self, client: &Client, node: &Node) {
        for key in self.keys.keys() {
            let url = format!(
                "{}/v2/kv/{key}?consistency=stale&min_revision={}",
                node.url(),
                self.revision
            );
            let revision = eventually(&url, DEADLINE, || async {
                self.judge(&node.name, key, &client.get(&url).await?)
            })
            .await;
            assert!(revision >= self.revision, "{url} answers at revision {revision}");
        }
    }
}

fn shown(value: Option<&[u8]>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(value) => format!("{} bytes ({:?}...)", value.len(), &value[..value.len().min(16)]),
    }
}

/// One PUT of a key to one node.
pub async fn put(
    client: &Client,
    node: &Node,
    key: &str,
    value: &[u8],
    idempotency_key: Option<&str>,
) -> Result<Answer, String> {
    let url = format!("{}/v2/kv/{key}", node.url());
    let headers: Vec<(&str, &str)> = idempotency_key
        .map(|token| ("idempotency-key", token))
        .into_iter()
        .collect();
    client.ask(Method::PUT, &url, &headers, Some(value.to_vec())).await
}

/// What an acknowledged write says its revision is.
pub fn revision(answer: &Answer) -> u64 {
    let json = answer.json();
    json["mod_revision"]
        .as_u64()
        .unwrap_or_else(|| panic!("no revision in {json}"))
}

/// One series of a node's metrics page; `Err`: the node does not answer, or has no such series.
pub async fn metric(client: &Client, node: &Node, name: &str) -> Result<f64, String> {
    client.metric(&node.url(), name).await
}

/// Bytes of all files under a directory, as long as they are there.
pub fn directory_bytes(directory: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => directory_bytes(&entry.path()),
            // What it takes on disk, not its length: files are preallocated.
            Ok(found) => std::os::unix::fs::MetadataExt::blocks(&found) * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Bytes that do not compress.
pub fn noise(generator: &mut impl rand::Rng, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    generator.fill_bytes(&mut value);
    value
}
