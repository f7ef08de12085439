//! The demo, as a user starts it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::{Cluster, Port, Process, eventually};

/// How long the demo shows its cluster; starting and the check at the end come on top.
const SHOWN: &str = "12s";
const DEADLINE: Duration = Duration::from_secs(120);

/// It comes to three nodes and a daemon on every instance, says so, ends by itself with exit code 0, and leaves nothing running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_ends_well_by_itself() {
    let directory = Cluster::directory();
    let port = Port::take();
    let mut command = tokio::process::Command::new(Process::program());
    let arguments = [
        "demo",
        "--json",
        "--for",
        SHOWN,
        "--base-port",
        &port.number.to_string(),
    ]
    .map(str::to_owned);
    command
        .args(arguments)
        .arg("--data")
        .arg(directory.path())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .expect("it ends in time")
        .expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}\n{text}", output.status);
    let verdict = of("verdict");
    assert!(
        verdict[0]["daemons"].as_u64().is_some_and(|count| count >= 30),
        "{verdict:?}"
    );
    assert_eq!(of("deployed").len(), 2);
    assert!(!of("leader").is_empty() && !of("daemon").is_empty());
    let nodes = of("nodes")[0]["nodes"].as_array().expect("three of them").clone();
    for node in &nodes {
        let pid = node["pid"].as_u64().expect("a pid");
        assert!(!runs(pid), "{node} still runs");
    }
    assert_eq!(nodes.len(), 3);
}

/// Whether a process runs; one that has ended and was not yet waited for does not (proc(5): the state stands behind the command).
fn runs(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}

/// Killed without a chance to say anything, it still leaves nothing running: its children end when it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_demo_leaves_nothing_running() {
    let directory = Cluster::directory();
    let port = Port::take();
    let mut command = tokio::process::Command::new(Process::program());
    command
        .args(["demo", "--json", "--base-port", &port.number.to_string(), "--data"])
        .arg(directory.path());
    let mut demo = command
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it can be started");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines();
    let nodes = tokio::time::timeout(DEADLINE, async {
        loop {
            let line = lines.next_line().await.expect("it can be read").expect("it goes on");
            let event: Value = serde_json::from_str(&line).expect("each line is JSON");
            if event["event"] == "nodes" {
                return event;
            }
        }
    });
    let nodes = nodes.await.expect("it comes to three nodes in time");
    let mut pids: Vec<u64> = nodes["nodes"]
        .as_array()
        .expect("three")
        .iter()
        .filter_map(|node| node["pid"].as_u64())
        .collect();
    pids.extend(nodes["simulator_pid"].as_u64());
    assert_eq!(pids.len(), 4, "{nodes}");
    demo.kill().await.expect("it runs");
    eventually("the children end", DEADLINE, || async {
        let left: Vec<&u64> = pids.iter().filter(|pid| runs(**pid)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?} still run"))
        }
    })
    .await;
}
