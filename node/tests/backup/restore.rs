//! A live cluster saved, and a new one founded with what was saved.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::command::{blox, text};
use crate::content::content;
use crate::harness::{Client, Cluster, DEADLINE, REGION, SimulatorProcess, SourceText, count, eventually, seeded};

/// As the store raises the revision.
const RAISED_BY: u64 = 1_000_000_000;
const INSTANCES: usize = 4;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Writes keys until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(client: Client, urls: Vec<String>) -> Load {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&written));
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !stopping.load(Ordering::Relaxed) {
                let url = format!("{}/v2/kv/load/{}", urls[number % urls.len()], number % 50);
                let body = number.to_string().repeat(100).into_bytes();
                let answer = client.ask(Method::PUT, &url, &[], Some(body)).await;
                if answer.is_ok_and(|answer| answer.is_success()) {
                    counting.fetch_add(1, Ordering::Relaxed);
                }
                number += 1;
            }
        });
        Load { stop, written, task }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the load does not panic");
        self.written.load(Ordering::Relaxed)
    }
}

/// The node's configuration with another data directory: what an operator would do on the same machines.
fn move_to(directory: &Path, name: &str, data: &Path) {
    let file = directory.join(format!("{name}.toml"));
    let config = std::fs::read_to_string(&file).expect("the configuration is there");
    let old = format!("data_directory = {:?}", directory.join(name));
    assert!(config.contains(&old), "{config}");
    std::fs::write(directory.join(format!("old-{name}.toml")), &config).expect("written");
    let new = config.replace(&old, &format!("data_directory = {data:?}"));
    std::fs::write(file, new).expect("written");
}

/// Everything a node of that name has ever written.
fn log(place: &Path, name: &str) -> String {
    std::fs::read_to_string(place.join(format!("{name}.log"))).unwrap_or_default()
}

/// How often ECS was called so since call number `from`.
async fn calls(simulator: &SimulatorProcess, from: u64, operation: &str) -> usize {
    let journal = simulator
        .get(&format!("/journal?limit=10000&from=999999999&from_call={from}"))
        .await;
    let calls = journal["calls"].as_array().expect("calls");
    calls.iter().filter(|call| call["operation"] == operation).count()
}

/// Waits until every event was received, applied and deleted.
async fn consumed(simulator: &SimulatorProcess) {
    eventually("an empty queue", DEADLINE, || async {
        let queues = simulator.get("/queues").await;
        let queues = queues["queues"].as_array().expect("queues");
        let counts = queues
            .iter()
            .flat_map(|queue| ["visible", "in_flight", "delayed"].map(|key| number(&queue[key])));
        match counts.sum() {
            0_u64 => Ok(()),
            left => Err(format!("{left} messages")),
        }
    })
    .await;
}

async fn next_call(simulator: &SimulatorProcess) -> u64 {
    let mut from = 0;
    loop {
        let journal = simulator
            .get(&format!("/journal?limit=10000&from=999999999&from_call={from}"))
            .await;
        let next = journal["next_call"].as_u64().expect("a number");
        if next == from {
            return next;
        }
        from = next;
    }
}

async fn failed_passes(cluster: &Cluster) -> f64 {
    let leader = cluster.leader().await;
    let page = cluster.get(leader, "/metrics").await.text();
    let values = page
        .lines()
        .filter(|line| line.starts_with("blox_reconcile_failures_total"));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

async fn all_ready(cluster: &Cluster, instances: usize) {
    eventually("every daemon runs", DEADLINE, || async {
        let environment = cluster.get(0, "/v2/environments/agent").await.json();
        let summary = &environment["summary"];
        let well = ["desired", "ready"].iter().all(|key| summary[key] == instances);
        if well { Ok(()) } else { Err(environment.to_string()) }
    })
    .await;
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

async fn status(cluster: &Cluster) -> Value {
    cluster.get(0, "/v2/cluster").await.json()
}

/// Proves row 16: saved under load with progress, never overwritten, inspected, restored to three new data directories; the new cluster has
/// an id of its own, the same content and mod revisions, the revision raised by a thousand million with all before it compacted, its own
/// members only; it and a node of the old one refuse each other; it launches and stops nothing before its ECS cluster was reconciled, though
/// events tempt it, and after that never twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_cluster_is_a_new_one_with_the_old_state() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let place = directory.path().to_owned();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    simulator.cluster(REGION, "beta", 3).await;
    let definition = simulator.definition(REGION, "agent").await;
    simulator.definition(REGION, "web").await;
    let source = SourceText {
        reconcile_pause: "1s",
        ..SimulatorProcess::source("main", REGION)
    };
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let wanted = json!({"cluster": "alpha", "task_definition": definition, "max_unavailable": 1});
    cluster.put("/v2/environments/agent", &wanted).await;
    all_ready(&cluster, INSTANCES).await;
    for key in 0..20 {
        cluster
            .put(&format!("/v2/kv/kept/{key}"), &json!({"number": key}))
            .await;
    }
    let keyed = |client: Client, url: String, body: &'static str| async move {
        let headers = [("idempotency-key", "once")];
        client
            .ask(
                Method::PUT,
                &format!("{url}/v2/kv/kept/once"),
                &headers,
                Some(body.into()),
            )
            .await
            .expect("an answer")
    };
    keyed(cluster.client.clone(), cluster.nodes[0].url(), "first").await;
    simulator.wait_until_still().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;

    // Saved while keys are written and another ECS cluster lives.
    let liveliness = json!({"task_starts_per_minute": 300, "task_stops_per_minute": 300});
    simulator.put("/liveliness", liveliness).await;
    let load = Load::start(
        cluster.client.clone(),
        cluster.nodes.iter().map(|node| node.url()).collect(),
    );
    let file = place.join("saved.blox");
    let endpoint = cluster.nodes[1].url();
    let save = [
        "snapshot",
        "save",
        text(&file),
        "--endpoint",
        "http://127.0.0.1:1",
        "--endpoint",
        endpoint.as_str(),
    ];
    let begun = std::time::Instant::now();
    for round in 0..count(3, 20) {
        if round > 0 {
            std::fs::remove_file(&file).expect("it was saved");
        }
        let said = blox(&save, &[]).await.well();
        assert!(
            said.errors.contains("no answer from http://127.0.0.1:1"),
            "{}",
            said.errors
        );
        assert!(
            said.errors.contains("saved: ") && said.errors.contains(" MiB/s"),
            "{}",
            said.errors
        );
    }
    println!("saved {} times in {:?}", count(3, 20), begun.elapsed());
    assert!(!place.join("saved.blox.part").exists());
    let again = blox(&save, &[]).await.refused();
    assert!(again.contains("exists already"), "{again}");
    println!("{} writes meanwhile", load.end().await);
    blox(&["snapshot", "inspect", text(&file)], &[]).await.well();

    // Saved once more, now that all is still, so that it is known what must come out.
    simulator.put("/liveliness", json!({})).await;
    simulator.wait_until_still().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;
    let before = saved_at_rest(&cluster, &file, &save).await;
    let old = status(&cluster).await;
    let inspected = blox(&["snapshot", "inspect", text(&file), "--output", "json"], &[])
        .await
        .well()
        .json();
    let saved = number(&inspected["revision"]);
    println!("inspected: {inspected}");
    assert_eq!(inspected["cluster_id"], old["cluster_id"]);
    assert_eq!(inspected["node"], "b");
    assert_eq!(inspected["feature_level"], 1);
    assert_eq!(
        (&inspected["counts"]["environment"], &inspected["counts"]["launch"]),
        (&json!(1), &json!(INSTANCES))
    );
    assert!(saved <= number(&old["revision"]) && saved > 100);
    assert_eq!(inspected["bytes"], std::fs::metadata(&file).expect("a file").len());

    // After the backup: one more instance gets its daemon, and the old cluster has consumed what ECS said of it.
    let late = simulator.instances(REGION, "alpha", 1).await;
    all_ready(&cluster, INSTANCES + 1).await;
    simulator.wait_until_still().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;
    consumed(&simulator).await;
    for node in &mut cluster.nodes {
        node.kill().await;
    }

    let mut restored_at = PathBuf::new();
    for name in NAMES {
        restored_at = place.join("restored").join(name);
        let said = blox(
            &[
                "snapshot",
                "restore",
                text(&file),
                "--data-directory",
                text(&restored_at),
                "--name",
                name,
            ],
            &[],
        )
        .await
        .well();
        assert!(
            said.output
                .contains(&format!("revision {saved}, which is {} now", saved + RAISED_BY)),
            "{}",
            said.output
        );
        move_to(&place, name, &restored_at);
    }
    let twice = [
        "snapshot",
        "restore",
        text(&file),
        "--data-directory",
        text(&restored_at),
        "--name",
        "c",
    ];
    let refused = blox(&twice, &[]).await.refused();
    assert!(refused.contains("restore into an empty directory"), "{refused}");

    let from_call = next_call(&simulator).await;
    simulator.post("/counts/reset", json!({})).await;
    simulator.put("/faults", json!({"errors": {"ListTasks": 1.0}})).await;
    cluster.begin().await;
    let now = status(&cluster).await;
    assert_ne!(now["cluster_id"], old["cluster_id"]);
    assert!(number(&now["revision"]) >= saved + RAISED_BY, "{now}");
    assert!(number(&now["oldest_revision"]) >= saved + RAISED_BY, "{now}");
    let members: Vec<&str> = now["members"]
        .as_array()
        .expect("members")
        .iter()
        .filter_map(|member| member["name"].as_str())
        .collect();
    assert_eq!(members, NAMES);
    assert_eq!(content(&cluster.client, &cluster.nodes[0].url()).await, before);

    // Events tempt: an instance that came meanwhile, one whose daemon the backup does not know, and a daemon that dies.
    let new = simulator.instances(REGION, "alpha", 1).await;
    let flap = json!({"cluster": "alpha", "instances": late, "away_ms": 10});
    simulator.post("/instances/flap", flap).await;
    let crash = json!({"cluster": "alpha", "count": 1, "group": group_of(&simulator).await});
    simulator.post("/tasks/crash", crash).await;
    for known in [&new[0], &late[0]] {
        eventually("the instance is known by its event", DEADLINE, || async {
            let path = format!("{}/v2/instances/{known}", cluster.nodes[0].url());
            let answer = cluster.client.get(&path).await?;
            if answer.is_success() {
                Ok(())
            } else {
                Err(answer.text())
            }
        })
        .await;
    }
    let failures = failed_passes(&cluster).await;
    eventually("two more passes have failed", DEADLINE, || async {
        let now = failed_passes(&cluster).await;
        if now >= failures + 2.0 {
            Ok(())
        } else {
            Err(format!("{now} after {failures}"))
        }
    })
    .await;
    for operation in ["StartTask", "RunTask", "StopTask"] {
        assert_eq!(
            calls(&simulator, from_call, operation).await,
            0,
            "{operation} before the first reconcile"
        );
    }
    let leader = cluster.leader().await;
    let log = log(&place, NAMES[leader]);
    assert!(
        log.contains("nothing is started or stopped before the cluster is reconciled"),
        "{log}"
    );

    let compacted = cluster
        .client
        .get(&format!("{}/v2/watch?from_revision={saved}", cluster.nodes[0].url()))
        .await
        .expect("an answer");
    assert_eq!(compacted.status, 410, "{}", compacted.text());
    assert_eq!(compacted.json()["oldest_revision"], saved + RAISED_BY);
    let replayed = keyed(cluster.client.clone(), cluster.nodes[2].url(), "first").await;
    assert!(replayed.is_success(), "{}", replayed.text());
    let conflict = keyed(cluster.client.clone(), cluster.nodes[2].url(), "second").await;
    assert_eq!(conflict.status, 409, "{}", conflict.text());

    // After the first whole pass the daemons come: on the new instance and where one died, and nowhere twice.
    simulator.delete("/faults").await;
    all_ready(&cluster, INSTANCES + 2).await;
    assert_eq!(calls(&simulator, from_call, "StopTask").await, 0);
    println!(
        "{} launches after the first reconcile",
        calls(&simulator, from_call, "StartTask").await
    );
    for pair in simulator.counts("blox:").await {
        assert!(number(&pair["maximum"]) <= 1, "two daemons: {pair}");
    }
    simulator.wait_until_still().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;

    refuse_each_other(&mut cluster, &place, &old).await;
}

/// Saves again until nothing has changed around it (a pass of reconcile may add what only Describe knows): what must come out.
async fn saved_at_rest(cluster: &Cluster, file: &Path, save: &[&str]) -> Vec<Value> {
    let url = cluster.nodes[0].url();
    for _ in 0..20 {
        std::fs::remove_file(file).expect("it was saved");
        let before = content(&cluster.client, &url).await;
        blox(save, &[]).await.well();
        if content(&cluster.client, &url).await == before {
            return before;
        }
    }
    panic!("the cluster does not come to rest");
}

/// The group of the daemons.
async fn group_of(simulator: &SimulatorProcess) -> String {
    let pairs = simulator.counts("blox:").await;
    let group = pairs.first().and_then(|pair| pair["group"].as_str());
    group.unwrap_or_else(|| panic!("no daemons: {pairs:?}")).to_owned()
}

/// A node of the old cluster comes back at the address of one of the new: nobody takes it for a member, nor does it take anybody.
async fn refuse_each_other(cluster: &mut Cluster, place: &Path, old: &Value) {
    cluster.nodes[0].kill().await;
    let new_config = std::fs::read_to_string(place.join("a.toml")).expect("read");
    let old_config = std::fs::read_to_string(place.join("old-a.toml")).expect("read");
    std::fs::write(place.join("a.toml"), old_config).expect("written");
    cluster.nodes[0].start();
    let expected = format!(
        "the call comes from cluster {}",
        old["cluster_id"].as_str().expect("an id")
    );
    for position in [1, 2] {
        eventually("the old node is refused", DEADLINE, || async {
            let log = log(place, NAMES[position]);
            if log.contains(&expected) {
                Ok(())
            } else {
                Err("no such line".to_owned())
            }
        })
        .await;
    }
    eventually("the new nodes are refused", DEADLINE, || async {
        let log = log(place, "a");
        let refused = log.contains("refused a call")
            && log.contains(&format!(
                "this node belongs to cluster {}",
                old["cluster_id"].as_str().unwrap_or_default()
            ));
        if refused {
            Ok(())
        } else {
            Err("no such line".to_owned())
        }
    })
    .await;
    // Its peers are none any more, and it says so.
    cluster.nodes[0].ended_by_itself().await;
    let words = log(place, "a");
    assert!(words.contains("this node does not take part any more"), "{words}");
    std::fs::write(place.join("a.toml"), new_config).expect("written");
    cluster.nodes[0].start();
    cluster.ready(0).await;
    cluster.put("/v2/kv/kept/last", &json!({"well": true})).await;
}
