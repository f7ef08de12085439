//! Clients that write and read on all nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::task::JoinSet;

use crate::harness::{Client, Cluster, DEADLINE, eventually};

/// Keys of one client.
const KEYS: u64 = 50;
/// How long the thread that watches the machine sleeps at a time.
const NAP: Duration = Duration::from_millis(10);

/// What clients have seen.
#[derive(Default)]
pub struct Seen {
    pub writes: AtomicU64,
    pub reads: AtomicU64,
    pub failed: AtomicU64,
    /// The longest time without a word of the leader (on the leader: of a quorum) that any answer spoke of, milliseconds.
    pub contact_ms_max: AtomicU64,
    /// The longest time that a plain thread of this process, which only sleeps, had to wait for a core, milliseconds: what the machine
    /// does to anyone, nodes too.
    pub core_wait_ms_max: AtomicU64,
    stopping: AtomicBool,
}

/// Clients under way.
pub struct Load {
    pub seen: Arc<Seen>,
    clients: JoinSet<()>,
    started: Instant,
}

impl Load {
    /// So many clients, each one request after another, writes and linearizable reads in turn, over all nodes; `pause` between two.
    pub fn start(cluster: &Cluster, clients: u64, pause: Duration) -> Load {
        let seen = Arc::new(Seen::default());
        let urls: Arc<Vec<String>> = Arc::new(cluster.nodes.iter().map(|node| node.url()).collect());
        std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || watch_the_machine(&seen)
        });
        let mut running = JoinSet::new();
        for number in 0..clients {
            running.spawn(client(
                number,
                cluster.client.clone(),
                Arc::clone(&urls),
                Arc::clone(&seen),
                pause,
            ));
        }
        Load {
            seen,
            clients: running,
            started: Instant::now(),
        }
    }

    /// Ends the clients; how long they ran.
    pub async fn stop(mut self) -> (Arc<Seen>, Duration) {
        let ran = self.started.elapsed();
        self.seen.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no client panics");
        }
        (self.seen, ran)
    }
}

/// Sleeps, and notes how late it wakes.
fn watch_the_machine(seen: &Seen) {
    while !seen.stopping.load(Ordering::Relaxed) {
        let began = Instant::now();
        std::thread::sleep(NAP);
        let late = began.elapsed().saturating_sub(NAP);
        let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        seen.core_wait_ms_max.fetch_max(late_ms, Ordering::Relaxed);
    }
}

async fn client(number: u64, client: Client, urls: Arc<Vec<String>>, seen: Arc<Seen>, pause: Duration) {
    let mut count = number;
    while !seen.stopping.load(Ordering::Relaxed) {
        count += 1;
        let url = format!(
            "{}/v2/kv/load/{number}/{}",
            urls[count as usize % urls.len()],
            count % KEYS
        );
        let writes = count.is_multiple_of(2);
        let answer = if writes {
            client.ask(Method::PUT, &url, &[], Some(vec![b'v'; 256])).await
        } else {
            client.get(&url).await
        };
        match answer {
            Ok(answer) if answer.is_success() || (!writes && answer.status == 404) => {
                let done = if writes { &seen.writes } else { &seen.reads };
                done.fetch_add(1, Ordering::Relaxed);
                let contact_ms = answer.header("x-blox-leader-contact-ms").parse().unwrap_or_default();
                seen.contact_ms_max.fetch_max(contact_ms, Ordering::Relaxed);
            }
            _ => {
                seen.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Who leads in which term, as every node says it, and how many leaders each has seen: equal before and after, where no election was. Asked until
/// every node names a leader: one that has just come knows it by number before it knows its name.
pub async fn leadership(cluster: &Cluster) -> Vec<(u64, String, u64)> {
    eventually("every node names a leader", DEADLINE, || async {
        let said = leadership_now(cluster).await;
        match said.iter().all(|(_, leader, _)| !leader.is_empty()) {
            true => Ok(said),
            false => Err(format!("{said:?}")),
        }
    })
    .await
}

async fn leadership_now(cluster: &Cluster) -> Vec<(u64, String, u64)> {
    let mut said = Vec::new();
    for node in cluster.running() {
        let status = cluster
            .client
            .get_json(&format!("{}/v2/cluster", node.url()))
            .await
            .expect("every node runs");
        let metrics = cluster
            .client
            .get(&format!("{}/metrics", node.url()))
            .await
            .expect("every node runs")
            .text();
        let changes = metrics
            .lines()
            .find_map(|line| line.strip_prefix("blox_raft_leader_changes_total "))
            .and_then(|value| value.trim().parse::<f64>().ok())
            .expect("every node counts leaders");
        said.push((
            status["term"].as_u64().expect("a term"),
            status["leader"]["name"].as_str().unwrap_or_default().to_owned(),
            changes as u64,
        ));
    }
    said
}
