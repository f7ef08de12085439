//! Writers that go on whatever happens, and remember what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use tokio::task::JoinHandle;

use crate::harness::{Client, Cluster};

const WRITERS: usize = 4;
/// Each node is asked for a moment only before the next is.
const PAUSE: Duration = Duration::from_millis(20);

/// Running writers.
pub struct Load {
    stopping: Arc<AtomicBool>,
    writers: Vec<JoinHandle<BTreeMap<String, String>>>,
}

impl Load {
    pub fn begin(cluster: &Cluster) -> Load {
        let stopping = Arc::new(AtomicBool::new(false));
        let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
        let writers = (0..WRITERS)
            .map(|writer| tokio::spawn(write(writer, urls.clone(), cluster.client.clone(), stopping.clone())))
            .collect();
        Load { stopping, writers }
    }

    /// Ends them; what was acknowledged, by key.
    pub async fn end(self) -> BTreeMap<String, String> {
        self.stopping.store(true, Ordering::SeqCst);
        let mut acknowledged = BTreeMap::new();
        for writer in self.writers {
            acknowledged.extend(writer.await.expect("a writer goes on to its end"));
        }
        acknowledged
    }
}

/// Writes one key after another, each until somebody acknowledges it, under an idempotency key of its own.
async fn write(
    writer: usize,
    urls: Vec<String>,
    client: Client,
    stopping: Arc<AtomicBool>,
) -> BTreeMap<String, String> {
    let mut acknowledged = BTreeMap::new();
    let mut node = writer;
    for number in 0_u64.. {
        let (key, value) = (format!("load-{writer}-{number}"), format!("value-{number}"));
        loop {
            if stopping.load(Ordering::SeqCst) {
                return acknowledged;
            }
            let url = format!("{}/v2/kv/{key}", urls[node % urls.len()]);
            let headers = [("idempotency-key", key.as_str())];
            match client
                .ask(Method::PUT, &url, &headers, Some(value.clone().into_bytes()))
                .await
            {
                Ok(answer) if answer.is_success() => break,
                Ok(_) | Err(_) => {
                    node += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        acknowledged.insert(key, value);
    }
    acknowledged
}
