//! Streams taken up again on another node after their node died.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};

use crate::harness::{Client, Cluster, DEADLINE, Lines, REGION, SimulatorProcess, seeded};

/// A node is killed after so many events of a stream have been read from it.
const EVENTS_BEFORE_THE_KILL: usize = 40;
/// Kills of the node that is being read from.
const KILLS: usize = 2;

/// What was read: revision and ARN of each event, in the order of the stream.
type Seen = Vec<(u64, String)>;

/// Which stream, and how it is resumed and read.
#[derive(Clone, Copy)]
enum Route {
    V1,
    V2,
}

impl Route {
    fn path(self, from: u64) -> String {
        match self {
            Route::V1 => format!("/v1/stream/tasks?entityVersion={from}"),
            Route::V2 => format!("/v2/watch?kinds=task&from_revision={from}"),
        }
    }

    /// Revision and ARN of an event; `None` for a bookmark.
    fn read(self, line: &Value) -> Option<(u64, String)> {
        match self {
            Route::V1 => {
                let version = line["metadata"]["entityVersion"]
                    .as_str()
                    .expect("an entity has a version");
                let arn = line["entity"]["taskARN"].as_str().expect("a task has an ARN");
                Some((version.parse().expect("a version is a number"), arn.to_owned()))
            }
            Route::V2 => match line["type"].as_str() {
                Some("PUT" | "DELETE") => Some((
                    line["revision"].as_u64().expect("a revision"),
                    line["arn"].as_str().expect("an ARN").to_owned(),
                )),
                Some("BOOKMARK") => None,
                _ => panic!("{line}"),
            },
        }
    }
}

/// A reader that goes on wherever it can, from the revision after the last it saw.
struct Reader {
    route: Route,
    next: u64,
    seen: Seen,
}

impl Reader {
    /// Reads from one node until so many events were seen in all, or until the stream breaks off or is silent for too long.
    async fn read(&mut self, client: &Client, url: &str, until: usize, patience: Duration) -> Result<(), String> {
        let mut lines = Lines::open(client, &format!("{url}{}", self.route.path(self.next))).await?;
        while self.seen.len() < until {
            let Some(line) = lines.next(patience).await? else {
                return Err("silence".to_owned());
            };
            if let Some((revision, arn)) = self.route.read(&line) {
                self.next = revision + 1;
                self.seen.push((revision, arn));
            }
        }
        Ok(())
    }
}

/// While tasks come and go, the node that both streams are read from is killed, twice (once it leads, once it follows); each stream goes on
/// elsewhere. In the end both have seen exactly what a node that never died tells from its history: nothing missing, nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_where_its_node_died() {
    let (seed, mut random) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", 6).await;
    simulator.definition(REGION, "web").await;
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let status = cluster.get(0, "/v2/cluster").await.json();
    let begin = status["revision"].as_u64().expect("a revision") + 1;
    simulator
        .put(
            "/liveliness",
            json!({"task_starts_per_minute": 400.0, "task_stops_per_minute": 380.0, "instances_min": 6}),
        )
        .await;

    let mut readers = [
        Reader {
            route: Route::V1,
            next: begin,
            seen: Vec::new(),
        },
        Reader {
            route: Route::V2,
            next: begin,
            seen: Vec::new(),
        },
    ];
    for kill in 0..KILLS {
        let victim = if kill == 0 {
            cluster.leader().await
        } else {
            cluster.follower().await
        };
        let until = readers.iter().map(|reader| reader.seen.len()).max().unwrap_or(0)
            + EVENTS_BEFORE_THE_KILL
            + random.random_range(0..20);
        let url = cluster.nodes[victim].url();
        for reader in &mut readers {
            reader
                .read(&cluster.client, &url, until, DEADLINE)
                .await
                .expect("a living node goes on telling");
        }
        cluster.nodes[victim].kill().await;
        let survivor = (victim + 1) % cluster.nodes.len();
        let url = cluster.nodes[survivor].url();
        for reader in &mut readers {
            let until = reader.seen.len() + EVENTS_BEFORE_THE_KILL;
            let mut last = String::new();
            for _ in 0..200 {
                match reader.read(&cluster.client, &url, until, Duration::from_secs(10)).await {
                    Ok(()) => break,
                    Err(error) => last = error,
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(reader.seen.len() >= until, "the stream does not go on: {last}");
        }
        cluster.nodes[victim].start();
        cluster.ready(victim).await;
    }

    simulator.put("/liveliness", json!({})).await;
    simulator.wait_until_still().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;
    let end = cluster.get(0, "/v2/cluster").await.json()["revision"]
        .as_u64()
        .expect("a revision");
    let history = read_to(&cluster.client, &cluster.nodes[0].url(), begin, end).await;
    for reader in &mut readers {
        reader.read_to_the_end(&cluster, end).await;
        let name = match reader.route {
            Route::V1 => "the /v1 stream",
            Route::V2 => "the /v2 watch",
        };
        compare(name, &reader.seen, &history);
    }
    assert!(
        history.len() > KILLS * EVENTS_BEFORE_THE_KILL,
        "too little happened: {}",
        history.len()
    );
}

impl Reader {
    /// Reads what is left up to a revision. Streams of v1 have no bookmarks, so silence is what ends them.
    async fn read_to_the_end(&mut self, cluster: &Cluster, end: u64) {
        if self.next > end {
            return;
        }
        let url = cluster.nodes[1].url();
        let _ = self
            .read(&cluster.client, &url, usize::MAX, Duration::from_secs(3))
            .await;
    }
}

/// Everything from the history of one node that never died within it.
async fn read_to(client: &Client, url: &str, begin: u64, end: u64) -> Seen {
    let mut lines = Lines::open(client, &format!("{url}{}", Route::V2.path(begin)))
        .await
        .expect("the history is kept");
    let mut seen = Vec::new();
    loop {
        let line = lines
            .next(DEADLINE)
            .await
            .expect("the stream goes on")
            .expect("a bookmark comes");
        if let Some(event) = Route::V2.read(&line) {
            seen.push(event);
        } else if line["revision"].as_u64() >= Some(end) {
            return seen;
        }
    }
}

fn compare(name: &str, seen: &Seen, history: &Seen) {
    assert!(
        seen.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "{name} is not in order"
    );
    let known: BTreeMap<u64, &str> = history
        .iter()
        .map(|(revision, arn)| (*revision, arn.as_str()))
        .collect();
    let read: BTreeMap<u64, &str> = seen.iter().map(|(revision, arn)| (*revision, arn.as_str())).collect();
    let missing: Vec<_> = known
        .iter()
        .filter(|(revision, _)| !read.contains_key(revision))
        .collect();
    let invented: Vec<_> = read
        .iter()
        .filter(|(revision, arn)| known.get(revision) != Some(arn))
        .collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{name}: missing {missing:?}, invented {invented:?}"
    );
    assert_eq!(seen.len(), history.len(), "{name}");
}
