//! Lists of tasks and instances, asked of all nodes at one moment: at one revision they are equal.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::Rng;
use serde_json::{Value, json};

use super::http::{Ask, Http, why};
use super::{Crew, Pace, Site, Work, Worker, WorkloadError};
use crate::check::history::Phase;
use crate::client::Node;
use crate::suite::Call;

/// Clients.
const WORKERS: usize = 2;
/// What is asked. The clusters are those of the simulator's fleet.
const QUERIES: [&str; 8] = [
    "/v1/tasks",
    "/v1/instances",
    "/v1/tasks?cluster=alpha&status=running",
    "/v1/tasks?cluster=beta&status=stopped",
    "/v1/instances?cluster=alpha",
    "/v2/tasks?cluster=alpha&limit=1000",
    "/v2/instances?cluster=beta&limit=1000",
    "/v2/clusters",
];
/// How often one query is asked of all nodes in the end, until they answer at one revision. What never does is judged by what was answered.
const LAST_TIMES: usize = 50;
/// Between two of these.
const LAST_PAUSE: Duration = Duration::from_millis(100);

struct Queries {
    site: Site,
    crew: Crew,
}

/// Begins at once.
pub(super) fn begin(site: &Site, per_second: u32) -> impl Work + use<> {
    let nodes = u32::try_from(site.nodes.len()).unwrap_or(1);
    let crew = Crew::begin(site, "queries", WORKERS, per_second.div_ceil(nodes), work);
    Queries {
        site: site.clone(),
        crew,
    }
}

impl Work for Queries {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.crew.stop())
    }

    /// Each query of all nodes, at one revision.
    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(async {
            let mut workers = crew_of_nodes(&self.site, "queries-last");
            for query in QUERIES {
                for _ in 0..LAST_TIMES {
                    let revisions = ask_all(&mut workers, query).await;
                    if revisions[0].is_some() && revisions.iter().all(|revision| *revision == revisions[0]) {
                        break;
                    }
                    tokio::time::sleep(LAST_PAUSE).await;
                }
            }
            Ok(())
        })
    }
}

/// A worker a node.
fn crew_of_nodes(site: &Site, name: &str) -> Vec<Worker> {
    let pace = Arc::new(Pace::new(1));
    (0..site.nodes.len())
        .map(|node| Worker::new(site, name, node, Arc::clone(&pace)))
        .collect()
}

async fn work(mut worker: Worker) {
    let name = format!("queries-{}", worker.number);
    let mut workers = crew_of_nodes(&worker.site, &name);
    while worker.turn().await {
        let query = QUERIES[worker.random.random_range(0..QUERIES.len())];
        ask_all(&mut workers, query).await;
    }
}

/// Asks every node the same at once; the revisions of their answers.
async fn ask_all(workers: &mut [Worker], query: &str) -> Vec<Option<u64>> {
    let asked = workers.iter_mut().enumerate().map(|(node, worker)| async move {
        let call = Call {
            function: "query",
            key: format!("queries{query}"),
            ..Call::default()
        };
        let patience = worker.patience();
        let (_, revision) = worker
            .tell(node, call, async |http, node| {
                match answer(http, node, query, patience).await {
                    Ok((items, revision)) => (Phase::Ok, Ok((json!(items), revision)), Some(revision)),
                    Err(why) => (Phase::Fail, Err(why), None),
                }
            })
            .await;
        revision
    });
    futures::future::join_all(asked).await
}

/// The list, an item a word: what names it, and a hash of everything in it.
async fn answer(http: &Http, node: &Node, query: &str, patience: Duration) -> Result<(Vec<String>, u64), String> {
    let answer = http.ask(node, &Ask::get(query, patience)).await;
    let reply = match &answer {
        Ok(reply) if reply.is_success() => reply,
        _ => return Err(why(&answer)),
    };
    let list = reply.json();
    let items = list["items"].as_array().ok_or_else(|| "no list".to_owned())?;
    Ok((items.iter().map(word_of).collect(), reply.revision))
}

fn word_of(item: &Value) -> String {
    let names = ["/arn", "/entity/taskARN", "/entity/containerInstanceARN"];
    let name = names.iter().find_map(|name| item.pointer(name)?.as_str());
    let mut hasher = DefaultHasher::new();
    item.to_string().hash(&mut hasher);
    let name = name.unwrap_or_default().rsplit('/').next().unwrap_or_default();
    format!("{name} {:016x}", hasher.finish())
}
