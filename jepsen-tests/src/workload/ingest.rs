//! Events of ECS through a queue that repeats, delays and mixes them up, and whose answers to deletions are lost: in the end everything is there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use rand::Rng;
use serde_json::{Value, json};

use super::ecs::Ecs;
use super::http::Ask;
use super::{Crew, Site, Work, Worker, WorkloadError};
use crate::check::ingest::{Read, Record, Sent, Shown};
use crate::suite::{Call, End, Folder, FolderError, Truth};

/// Clients that list meanwhile.
const WORKERS: usize = 3;
/// What the queue does, and how often an answer to a deletion is lost.
const DUPLICATES: f64 = 0.2;
const REORDERED: f64 = 0.3;
const DELAYED: f64 = 0.05;
const LOST: f64 = 0.01;
const ANSWERS_LOST: f64 = 0.1;
/// Lists that are kept with the versions that they show.
const LISTS: [&str; 4] = [
    "/v2/tasks?cluster=alpha&limit=200",
    "/v2/tasks?cluster=beta&limit=200",
    "/v2/instances?cluster=alpha&limit=200",
    "/v2/instances?cluster=beta&limit=200",
];
/// Of an answer's items so many are kept at most.
const KEPT_MAX: usize = 20;
/// How long a list may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Items of a page in the end, and pages at most.
const PAGE: usize = 1_000;
const PAGES_MAX: usize = 1_000;

struct Ingest {
    crew: Crew,
    ecs: Ecs,
}

/// The fleet begins to live, its queue to misbehave.
pub(super) async fn begin(site: &Site, per_second: u32) -> Result<impl Work + use<>, WorkloadError> {
    let ecs = Ecs::of(&site.simulator)?;
    let events = json!({"duplicate_probability": DUPLICATES, "reorder_probability": REORDERED, "reorder_ms_max": 500,
        "delay_probability": DELAYED, "delay_ms_min": 500, "delay_ms_max": 3_000, "loss_probability": LOST});
    ecs.fault(&json!({"events": events})).await?;
    ecs.answers(&json!({"operation": "DeleteMessageBatch", "action": "lose", "probability": ANSWERS_LOST}))
        .await?;
    site.simulator.live(site.patience).await?;
    let crew = Crew::begin(site, "ingest", WORKERS, per_second, work);
    Ok(Ingest { crew, ecs })
}

impl Work for Ingest {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.crew.stop().await;
            // Where it does not answer, the queue will not be empty in time, and that is said.
            let _ = self.ecs.behave().await;
        })
    }

    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Lists, and keeps which versions they show: `{"began_ms","versions":[[arn,version]]}`.
async fn work(mut worker: Worker) {
    let path = Folder::open(&worker.site.folder).ecs_reads(worker.number);
    // Without its file there are no reads in between to be judged; all else is.
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let mut file = made.and_then(|()| File::create(&path)).ok().map(BufWriter::new);
    while worker.turn().await {
        let node = worker.node();
        let list = LISTS[worker.random.random_range(0..LISTS.len())];
        let began_ms = wall_ms();
        let call = Call {
            function: "list",
            key: format!("ingest{list}"),
            ..Call::default()
        };
        let done = worker
            .read(node, call, Ask::get(list, PATIENCE), |reply| {
                End::ok(Value::Null, Some(reply.revision))
            })
            .await;
        let list = done.reply.map(|reply| reply.json()).unwrap_or_default();
        let items = list["items"].as_array().into_iter().flatten();
        let versions: Vec<Value> = items.filter_map(version_of).take(KEPT_MAX).collect();
        if let (Some(file), false) = (&mut file, versions.is_empty()) {
            // A line that is not written is a read that is not judged.
            let _ = writeln!(file, "{}", json!({"began_ms": began_ms, "versions": versions}));
        }
    }
}

fn version_of(item: &Value) -> Option<Value> {
    let version = item["document"]["version"].as_u64()?;
    Some(json!([item["arn"].as_str()?, version]))
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

/// Versions of all tasks and instances as the state shows them in the end, by ARN.
pub async fn versions(site: &Site) -> Result<Value, String> {
    let mut versions = serde_json::Map::new();
    for kind in ["tasks", "instances"] {
        let mut next = String::new();
        for _ in 0..PAGES_MAX {
            let path = format!("/v2/{kind}?limit={PAGE}{next}");
            let answer = site.http.ask(&site.nodes[0], &Ask::get(path, PATIENCE)).await;
            let page = match &answer {
                Ok(reply) if reply.is_success() => reply.json(),
                _ => return Err(super::http::why(&answer)),
            };
            for item in page["items"].as_array().into_iter().flatten() {
                if let Some(arn) = item["arn"].as_str() {
                    versions.insert(arn.to_owned(), item["document"]["version"].clone());
                }
            }
            match page["next_token"].as_str() {
                Some(token) => next = format!("&next_token={token}"),
                None => break,
            }
        }
    }
    Ok(Value::Object(versions))
}

/// The record of a run, from its files. `clocks_are_right`: those of the nodes agree with ECS's; otherwise the times of changes say nothing.
pub fn record(folder: &Folder, truth: &Truth, clocks_are_right: bool) -> Result<Record, FolderError> {
    let path = folder.ecs();
    let ecs = folder.read_json(&path)?;
    let wrong = |why: String| FolderError::Wrong {
        path: path.clone(),
        why,
    };
    let events = ecs["memory"]["events"].as_array().into_iter().flatten();
    let sent = events.map(Sent::of).collect::<Result<_, String>>().map_err(wrong)?;
    let timed = |shown: &Shown| Shown {
        proposed_ms: shown.proposed_ms.filter(|_| clocks_are_right),
        ..shown.clone()
    };
    let last = ecs["versions"].as_object().into_iter().flatten();
    let mut reads = Vec::new();
    for path in (0..WORKERS)
        .map(|number| folder.ecs_reads(number))
        .filter(|path| path.exists())
    {
        reads.extend(folder.read_lines(&path)?);
    }
    Ok(Record {
        sent,
        changes: truth.shown.iter().map(timed).collect(),
        reads: reads.iter().flat_map(reads_of).collect(),
        last: last
            .filter_map(|(arn, version)| Some((arn.clone(), version.as_u64()?)))
            .collect(),
        waiting: usize::try_from(ecs["memory"]["waiting"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX),
    })
}

fn reads_of(line: &Value) -> Vec<Read> {
    let began_ms = line["began_ms"].as_u64().unwrap_or(0);
    let versions = line["versions"].as_array().into_iter().flatten();
    let read = |pair: &Value| {
        Some(Read {
            arn: pair[0].as_str()?.to_owned(),
            began_ms,
            version: pair[1].as_u64(),
        })
    };
    versions.filter_map(read).collect()
}
