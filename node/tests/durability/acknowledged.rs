//! Nothing is acknowledged before it is durable on a majority: the system calls of three nodes, in their order.

use std::path::{Path, PathBuf};

use futures::stream::{self, StreamExt};
use reqwest::Method;

use crate::harness::{Cluster, DEADLINE, Node, SimulatorProcess, eventually, seeded};
use crate::order::{Trace, acknowledged_after_durable, voted_after_durable};
use crate::strace::{self, Tracer, calls_in};

const WRITES: usize = 500;
/// Written at the same time, so that some share an entry, and some a sync.
const WRITES_AT_ONCE: usize = 4;
/// The leader is killed so often meanwhile.
const ELECTIONS: usize = 2;

/// Three nodes run under strace. Of 500 writes over all nodes, alone and together, no 200 leaves before fdatasync has returned on two nodes since
/// the entry was written there; and no vote is granted before its own sync has returned. The leader dies twice in between, so that there are
/// votes and writes of several terms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_it_is_durable_on_a_majority() {
    if let Err(why) = strace::available() {
        println!("SKIPPED nothing_is_acknowledged_before_it_is_durable_on_a_majority: {why}");
        return;
    }
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let traces = directory.path().join("traces");
    let simulator = SimulatorProcess::start(seed, &[], directory.path()).await;
    let mut cluster = Cluster::prepare(directory, None, &simulator.url(), &[], "");
    for position in 0..cluster.nodes.len() {
        start_traced(&mut cluster.nodes[position], &traces, 0);
    }
    for position in 0..cluster.nodes.len() {
        cluster.ready(position).await;
    }
    let tokens: Vec<String> = (0..WRITES).map(|number| format!("ack{seed:010}-{number:05}")).collect();
    let mut ended: Vec<Tracer> = Vec::new();
    for (part, tokens) in tokens.chunks(WRITES.div_ceil(ELECTIONS + 1)).enumerate() {
        if part > 0 {
            let leader = cluster.leader().await;
            ended.push(Tracer::of(&mut cluster.nodes[leader]));
            cluster.nodes[leader].kill().await;
            cluster.leader().await;
            start_traced(&mut cluster.nodes[leader], &traces, part);
            cluster.ready(leader).await;
        }
        write_all(&cluster, tokens).await;
    }
    for node in &mut cluster.nodes {
        ended.push(Tracer::of(node));
    }
    cluster.kill_all().await;
    for tracer in ended {
        tracer.ended().await;
    }

    let traces: Vec<Trace> = cluster.nodes.iter().map(|node| trace_of(node, &traces)).collect();
    let wrong = acknowledged_after_durable(&traces, &tokens);
    assert!(
        wrong.is_empty(),
        "{} of {WRITES} writes: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    let votes = voted_after_durable(&traces).expect("every vote was durable before it was granted");
    assert!(votes > ELECTIONS, "a vote at least for each election: {votes}");
    let calls: usize = traces.iter().map(|trace| trace.calls.len()).sum();
    println!("{WRITES} writes and {votes} granted votes left after their syncs; {calls} system calls looked at");
}

/// A directory for each run of each node.
fn run_directory(traces: &Path, node: &str, run: usize) -> PathBuf {
    traces.join(format!("{node}-{run}"))
}

fn start_traced(node: &mut Node, traces: &Path, run: usize) {
    std::fs::create_dir_all(traces).expect("the test's directory can be written");
    let directory = run_directory(traces, &node.name, run);
    node.start_as(&[], &strace::tracing_into(&directory));
}

fn trace_of(node: &Node, traces: &Path) -> Trace {
    let runs = (0..=ELECTIONS).map(|run| run_directory(traces, &node.name, run));
    Trace {
        name: node.name.clone(),
        peer_address: node.peer_address(),
        calls: runs.filter(|run| run.exists()).flat_map(|run| calls_in(&run)).collect(),
    }
}

/// One after another and several together, over all nodes; each until it is acknowledged.
async fn write_all(cluster: &Cluster, tokens: &[String]) {
    let (alone, together) = tokens.split_at(tokens.len() / 3);
    for (position, token) in alone.iter().enumerate() {
        write(cluster, position, token).await;
    }
    stream::iter(together.iter().enumerate())
        .map(|(position, token)| write(cluster, position, token))
        .buffer_unordered(WRITES_AT_ONCE)
        .for_each(|()| async {})
        .await;
}

async fn write(cluster: &Cluster, node: usize, token: &str) {
    let url = format!("{}/v2/kv/{token}", cluster.nodes[node % cluster.nodes.len()].url());
    // The answer carries the request's id; the value holds the token again, should a block's end cut it in two.
    let headers = [("x-request-id", token), ("idempotency-key", token)];
    eventually("a write is acknowledged", DEADLINE, || async {
        let body = format!("{token} {token}").into_bytes();
        let answer = cluster.client.ask(Method::PUT, &url, &headers, Some(body)).await?;
        if answer.is_success() {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
}
