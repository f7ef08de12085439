//! `/metrics` of a whole node.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, eventually, seeded};

/// Every part of a node is on the page of the leader, each series once, as Prometheus demands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_is_on_the_page_and_each_series_once() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", 2).await;
    simulator.definition(REGION, "agent").await;
    let source = SimulatorProcess::source("main", REGION);
    let cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let wanted = json!({"cluster": "alpha", "task_definition": "agent"});
    cluster.put("/v2/environments/agent", &wanted).await;
    let leader = cluster.leader().await;
    let parts = [
        "blox_build_info",
        "blox_raft_is_leader",
        "blox_store_revision",
        "blox_session",
        "blox_events_total",
        "blox_sqs_received_total",
        "blox_ecs_api_requests_total",
        "blox_reconcile_passes_total",
        "blox_scheduler_start_calls_total",
        "blox_daemon_desired",
        "blox_http_request_duration_seconds_count",
        "blox_log_lines_dropped_total",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ];
    let page = eventually("every part has counted", DEADLINE, || async {
        let page = cluster.get(leader, "/metrics").await.text();
        let missing: Vec<&str> = parts
            .into_iter()
            .filter(|part| !page.lines().any(|line| line.starts_with(part)))
            .collect();
        if missing.is_empty() {
            Ok(page)
        } else {
            Err(format!("{missing:?} are not in\n{page}"))
        }
    })
    .await;
    let mut seen = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        assert!(seen.insert(series.to_owned()), "twice on the page: {series}");
    }
}
