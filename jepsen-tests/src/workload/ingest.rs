//! Events of ECS through a queue that repeats, delays and mixes them up, and whose answers to deletions are lost: in the end everything is there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Bound;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use rand::Rng;
use serde_json::{Value, json};

use super::ecs::Ecs;
use super::http::Ask;
use super::{Crew, Site, Work, Worker, WorkloadError};
use crate::check::ingest::{CLOCKS_MS, Read, Record, Sent, Shown};
use crate::suite::{Call, End, Folder, FolderError, Truth};

/// Clients that list meanwhile.
const WORKERS: usize = 3;
/// What the queue does, and how often an answer to a deletion is lost.
const DUPLICATES: f64 = 0.2;
const REORDERED: f64 = 0.3;
const DELAYED: f64 = 0.05;
const LOST: f64 = 0.01;
const ANSWERS_LOST: f64 = 0.1;
/// Lists that are kept with the versions that they show: the kind, and what stands in its ARNs; the cluster.
const LISTS: [(&str, &str, &str); 4] = [
    ("tasks", "task", "alpha"),
    ("tasks", "task", "beta"),
    ("instances", "container-instance", "alpha"),
    ("instances", "container-instance", "beta"),
];
/// Items of such a list: its first page, in the order of ARNs.
const LISTED: usize = 200;
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

/// Lists, and keeps which versions they show: `{"began_ms","of":":task/alpha/","versions":[[arn,version]],"until":arn}`. `of` is in every ARN of that list;
/// ARNs beyond `until` are on other pages, null: there are none.
async fn work(mut worker: Worker) {
    let path = Folder::open(&worker.site.folder).ecs_reads(worker.number);
    // Without its file there are no reads in between to be judged; all else is.
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let mut file = made.and_then(|()| File::create(&path)).ok().map(BufWriter::new);
    while worker.turn().await {
        let node = worker.node();
        let (kind, in_arns, cluster) = LISTS[worker.random.random_range(0..LISTS.len())];
        let list = format!("/v2/{kind}?cluster={cluster}&limit={LISTED}");
        let began_ms = wall_ms();
        let call = Call {
            function: "list",
            key: format!("ingest{list}"),
            ..Call::default()
        };
        let done = worker
            .read(node, call, Ask::get(list, PATIENCE), |reply| {
                End::of_state(Value::Null, reply.revision)
            })
            .await;
        let shown = done.reply.map(|reply| shown(&reply.json()));
        if let (Some(file), Some(mut line)) = (&mut file, shown.flatten()) {
            line["began_ms"] = json!(began_ms);
            line["of"] = json!(format!(":{in_arns}/{cluster}/"));
            // A line that is not written is a read that is not judged.
            let _ = writeln!(file, "{line}");
        }
    }
}

/// What a page shows of its items; `None`: it is no page.
fn shown(page: &Value) -> Option<Value> {
    let items = page["items"].as_array()?;
    let pairs: Vec<Value> = items
        .iter()
        .map(|item| json!([item["arn"], item["document"]["version"]]))
        .collect();
    let last = items.last().filter(|_| !page["next_token"].is_null());
    Some(json!({"versions": pairs, "until": last.map(|item| &item["arn"])}))
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
    let sent: Vec<Sent> = events.map(Sent::of).collect::<Result<_, String>>().map_err(wrong)?;
    let timed = |shown: &Shown| Shown {
        proposed_ms: shown.proposed_ms.filter(|_| clocks_are_right),
        ..shown.clone()
    };
    let last = ecs["versions"].as_object().into_iter().flatten();
    let mut lines = Vec::new();
    for path in (0..WORKERS)
        .map(|number| folder.ecs_reads(number))
        .filter(|path| path.exists())
    {
        lines.extend(folder.read_lines(&path)?);
    }
    Ok(Record {
        reads: reads(&sent, &lines),
        sent,
        changes: truth.shown.iter().map(timed).collect(),
        last: last
            .filter_map(|(arn, version)| Some((arn.clone(), version.as_u64()?)))
            .collect(),
        waiting: usize::try_from(ecs["memory"]["waiting"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX),
    })
}

/// What lists showed: a version of each item, and of what an event was deleted from the queue before, and what the list should show and does not, none.
fn reads(sent: &[Sent], lines: &[Value]) -> Vec<Read> {
    let mut of_lists: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut reads = Vec::new();
    for line in lines {
        let began_ms = line["began_ms"].as_u64().unwrap_or(0);
        let pairs = line["versions"].as_array().into_iter().flatten();
        let shown: BTreeMap<&str, Option<u64>> = pairs
            .filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_u64())))
            .collect();
        let read = |arn: &str, version: Option<u64>| Read {
            arn: arn.to_owned(),
            began_ms,
            version,
        };
        // One without a version is there, and says nothing.
        let versions = shown.iter().filter(|(_, version)| version.is_some());
        reads.extend(versions.map(|(arn, version)| read(arn, *version)));
        let Some(of) = line["of"].as_str() else { continue };
        let owed = of_lists.entry(of).or_insert_with(|| first_deletions(sent, of));
        let end = line["until"].as_str().map_or(Bound::Unbounded, Bound::Included);
        let missing = owed
            .range::<str, _>((Bound::Unbounded, end))
            .filter(|(arn, at_ms)| **at_ms + CLOCKS_MS < began_ms && !shown.contains_key(*arn));
        reads.extend(missing.map(|(arn, _)| read(arn, None)));
    }
    reads
}

/// When the first event of each task or instance of a list was deleted from the queue, milliseconds.
fn first_deletions<'a>(sent: &'a [Sent], of: &str) -> BTreeMap<&'a str, u64> {
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    for event in sent.iter().filter(|event| event.arn.contains(of)) {
        for at_ms in &event.deleted_ms {
            let known = first.entry(&event.arn).or_insert(*at_ms);
            *known = (*known).min(*at_ms);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::ingest::check;
    use crate::check::testing::refuted;
    use crate::check::{Verdict, ingest};

    fn arn(of: &str, id: &str) -> String {
        format!("arn:aws:ecs:r:1{of}{id}")
    }

    /// Tasks of two clusters whose events were deleted at 1000 ms, and what the lists of these lines show of them.
    fn judged(lines: &[Value]) -> Verdict {
        let event = |of: &str, id: &str| Sent {
            arn: arn(of, id),
            version: 1,
            queued: 1,
            deleted_ms: vec![1_000],
        };
        let sent = vec![
            event(":task/alpha/", "a"),
            event(":task/alpha/", "c"),
            event(":task/beta/", "b"),
            event(":container-instance/alpha/", "b"),
        ];
        let last: BTreeMap<String, u64> = sent.iter().map(|event| (event.arn.clone(), 1)).collect();
        let changes = sent.iter().zip(1..).map(|(event, revision)| Shown {
            arn: event.arn.clone(),
            revision,
            version: Some(1),
            proposed_ms: Some(900),
        });
        check(&ingest::Record {
            changes: changes.collect(),
            reads: reads(&sent, lines),
            sent,
            last,
            waiting: 0,
        })
    }

    fn line(began_ms: u64, ids: &[&str], until: Option<&str>) -> Value {
        let versions: Vec<Value> = ids.iter().map(|id| json!([arn(":task/alpha/", id), 1])).collect();
        json!({"began_ms": began_ms, "of": ":task/alpha/", "versions": versions, "until": until.map(|id| arn(":task/alpha/", id))})
    }

    /// A list shows what was deleted from the queue before it was asked for: all of it, and of the first page what lies before its end.
    #[test]
    fn what_a_list_does_not_show_counts() {
        assert_eq!(judged(&[line(2_000, &["a", "c"], None)]), Verdict::Valid);
        assert_eq!(
            judged(&[line(2_000, &["a", "b"], Some("b"))]),
            Verdict::Valid,
            "c is on another page"
        );
        assert_eq!(
            judged(&[line(1_040, &["a"], None)]),
            Verdict::Valid,
            "clocks may be so far apart"
        );
        let unversioned = json!({"began_ms": 2_000, "of": ":task/alpha/", "versions": [[arn(":task/alpha/", "a"), 1], [arn(":task/alpha/", "c"), null]], "until": null});
        assert_eq!(judged(&[unversioned]), Verdict::Valid);
        let shows_none = "and a read that began at 2000 ms shows no record";
        refuted(&judged(&[line(2_000, &["a"], None)]), shows_none);
        refuted(&judged(&[line(2_000, &["c"], Some("c"))]), shows_none);
        refuted(&judged(&[line(2_000, &[], None)]), shows_none);
    }

    /// A page in the API's own form.
    #[test]
    fn a_page_is_read() {
        let item = |arn: &str| json!({"arn": arn, "document": {"version": 4}});
        let page = json!({"items": [item("a"), item("b")], "revision": 9, "next_token": null});
        assert_eq!(
            shown(&page),
            Some(json!({"versions": [["a", 4], ["b", 4]], "until": null}))
        );
        let more = json!({"items": [item("a")], "next_token": "t"});
        assert_eq!(shown(&more), Some(json!({"versions": [["a", 4]], "until": "a"})));
        assert_eq!(shown(&json!({})), None);
    }
}
