//! The demo, as a user starts it.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cluster, Port};

/// How long the demo shows its cluster; starting and the check at the end come on top.
const SHOWN: &str = "12s";
const DEADLINE: Duration = Duration::from_secs(120);

/// It comes to three nodes and a daemon on every instance, says so, ends by itself with exit code 0, and leaves nothing running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_ends_well_by_itself() {
    let directory = Cluster::directory();
    let port = Port::take();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_blox"));
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
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{node} still runs"
        );
    }
    assert_eq!(nodes.len(), 3);
}
