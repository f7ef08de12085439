//! A leader that stands still in the middle of a launch and wakes up when another leads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, DEADLINE, Lines, REGION, SimulatorProcess, count, eventually, seeded};
use crate::support::{ask, leader_among, metric, others, start_with_points};

const INSTANCES: usize = 2;
/// How long an order is held at a crash point by its own clock: longer than it takes to stop the process there, shorter than it stands still.
const HELD_MS: u64 = 3_500;

/// Where the leader is when it is stopped, and where its launch is by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The intent is committed; leadership is not confirmed yet.
    BeforeTheCheck,
    /// Leadership was confirmed; the call is not made.
    BeforeTheCall,
    /// ECS has started the tasks; the answer comes while the leader stands still.
    InsideTheCall,
    /// The answer was read; the outcome is not proposed.
    BeforeTheOutcome,
}

impl Moment {
    /// In this order: the simulator holds the answer of whoever calls next, so that one is the last.
    const ALL: [Moment; 4] = [
        Moment::BeforeTheCheck,
        Moment::BeforeTheCall,
        Moment::BeforeTheOutcome,
        Moment::InsideTheCall,
    ];

    fn environment(self) -> &'static str {
        match self {
            Moment::BeforeTheCheck => "before-check",
            Moment::BeforeTheCall => "before-call",
            Moment::InsideTheCall => "inside-call",
            Moment::BeforeTheOutcome => "before-outcome",
        }
    }

    fn crash_point(self) -> Option<&'static str> {
        match self {
            Moment::BeforeTheCheck => Some("scheduler::held-before-leader-check"),
            Moment::BeforeTheCall => Some("scheduler::held-before-call"),
            Moment::InsideTheCall => None,
            Moment::BeforeTheOutcome => Some("scheduler::held-before-outcome"),
        }
    }
}

/// SIGSTOP of a leader with four launches under way, each at another moment, while another node leads; then SIGCONT. Proves: no late call
/// leaves the old leader (the check of leadership, or its age, refuses it), the late outcomes of its session are refused, and in the end each
/// instance runs exactly one task of each environment, of which ECS was asked exactly once. Never were there two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_wakes_up_late_does_nothing() {
    let (seed, _) = seeded();
    for round in 0..count(1, 5) {
        // A launch that was not made is closed soon after its deadline, which lies beyond the pause: then it is the leader check that refuses
        // the late call. In full, one round keeps the real 20 s and 60 s.
        let is_real = count(false, round == 0);
        let stopped = Duration::from_secs(count(4, 20));
        let waits = if is_real {
            String::new()
        } else {
            let deadline_ms = stopped.as_millis() + 4_000;
            format!(
                "launch::call-deadline-ms=return({deadline_ms});launch::close-after-deadline-ms=return(500);launch::look-up-gap-ms=return(300)"
            )
        };
        one_round(seed + round, &waits, stopped).await;
    }
}

async fn one_round(seed: u64, waits: &str, stopped: Duration) {
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    let instances = simulator.cluster(REGION, "alpha", INSTANCES).await;
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = start_with_points(directory, &simulator, source, waits).await;
    cluster.reconciled().await;
    let old = cluster.leader().await;

    for moment in Moment::ALL {
        bring_to(moment, &mut cluster, old, &simulator).await;
    }
    cluster.nodes[old].pause();
    let went_on = cluster.nodes[old].log().contains("goes on from a crash point");
    assert!(
        !went_on,
        "this machine was too slow: an order went on before the leader stood still"
    );
    let began = Instant::now();
    let new = leader_among(&cluster, &others(&cluster, old)).await;
    println!(
        "{} leads {:?} after {} stands still",
        cluster.nodes[new].name,
        began.elapsed(),
        cluster.nodes[old].name
    );
    let released = simulator.post("/release", json!({"operation": "StartTask"})).await;
    assert_eq!(
        released["released"], 1,
        "the answer comes while its caller stands still"
    );
    for moment in [Moment::InsideTheCall, Moment::BeforeTheOutcome] {
        runs_everywhere(&cluster, new, moment).await;
        println!("{moment:?}: the new leader found its tasks after {:?}", began.elapsed());
    }
    let calls_before = calls(&simulator, "StartTask").await;
    tokio::time::sleep(stopped.saturating_sub(began.elapsed())).await;

    cluster.nodes[old].resume();
    let resumed = Instant::now();
    eventually("the old leader follows", DEADLINE, || async {
        let status = ask(&cluster, old, "/v2/cluster").await?.json();
        let log = cluster.nodes[old].log();
        let is_over = log.contains("the duties have ended");
        let leads = status["leader"].as_str() == Some(cluster.nodes[old].name.as_str());
        if is_over && !leads {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    println!(
        "stopped {stopped:?}; its duties ended {:?} after it went on",
        resumed.elapsed()
    );
    let not_made = metric(&cluster, old, "blox_scheduler_calls_not_made_total").await;
    let refused = metric(&cluster, old, "blox_scheduler_outcomes_refused_total").await;
    println!("on the old leader: {not_made} calls not made, {refused} outcomes refused");
    let log = cluster.nodes[old].log();
    let is_left = refused > 0.0 || log.contains("pieces of work are left to the next session");
    assert!(
        is_left,
        "the late outcomes were not recorded by the old session:\n{log}"
    );
    let calls_after = calls(&simulator, "StartTask").await;
    assert_eq!(
        calls_after.len(),
        calls_before.len(),
        "a late call left: {calls_after:?}"
    );

    for moment in Moment::ALL {
        runs_everywhere(&cluster, new, moment).await;
    }
    println!(
        "every environment runs {:?} after the leader stood still",
        began.elapsed()
    );
    let launches = launches(&cluster, new).await;
    for moment in Moment::ALL {
        let states = launches.get(moment.environment()).expect("it was launched");
        let expected: &[&str] = match moment {
            Moment::InsideTheCall | Moment::BeforeTheOutcome => &["intended", "unknown", "bound"],
            // Given up, and launched again by the new leader.
            Moment::BeforeTheCheck | Moment::BeforeTheCall => &["intended", "unknown", "vanished", "intended", "bound"],
        };
        assert!(
            states.values().all(|states| states == expected),
            "{moment:?}: {states:?}"
        );
        assert_eq!(states.len(), INSTANCES);
    }
    simulator.wait_until_still().await;
    assert_eq!(
        calls_before.len(),
        2,
        "only what had been called before: {calls_before:?}"
    );
    judge(&simulator, &instances).await;
}

/// Creates an environment and waits until its launch is where it should be.
async fn bring_to(moment: Moment, cluster: &mut Cluster, leader: usize, simulator: &SimulatorProcess) {
    let name = moment.environment();
    simulator.definition(REGION, name).await;
    match moment.crash_point() {
        Some(point) => {
            let action = format!("1*return({HELD_MS})");
            cluster.nodes[leader].set_failpoint(point, &action).await;
        }
        None => {
            let hold = json!({"operation": "StartTask", "action": "hold", "calls": 1});
            simulator.post("/answers", hold).await;
        }
    }
    let wanted = json!({"cluster": "alpha", "task_definition": name, "max_unavailable": INSTANCES});
    let url = format!("{}/v2/environments/{name}", cluster.nodes[leader].url());
    let answer = cluster
        .client
        .put_json(&url, &wanted)
        .await
        .expect("the leader answers");
    assert!(answer.is_success(), "{}", answer.text());
    match moment.crash_point() {
        Some(point) => {
            let node = &cluster.nodes[leader];
            eventually(point, DEADLINE, || async {
                let log = node.log();
                if log.contains(point) {
                    Ok(())
                } else {
                    Err("not held yet".to_owned())
                }
            })
            .await;
        }
        None => {
            let held = simulator
                .get("/held?operation=StartTask&at_least=1&wait_ms=30000")
                .await;
            assert_eq!(held["held"], 1);
        }
    }
}

async fn runs_everywhere(cluster: &Cluster, node: usize, moment: Moment) {
    let path = format!("/v2/environments/{}", moment.environment());
    eventually(&path, Duration::from_secs(150), || async {
        let environment = ask(cluster, node, &path).await?.json();
        let summary = &environment["summary"];
        let well = ["desired", "ready", "updated"]
            .iter()
            .all(|key| summary[key] == INSTANCES);
        if well { Ok(()) } else { Err(environment.to_string()) }
    })
    .await;
}

/// The states the launches on each instance went through, by the name of their environment, from the history of the cluster.
async fn launches(cluster: &Cluster, node: usize) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let status = ask(cluster, node, "/v2/cluster").await.expect("it leads").json();
    let url = format!("{}/v2/watch?from_revision=1", cluster.nodes[node].url());
    let mut lines = Lines::open(&cluster.client, &url).await.expect("history is kept");
    let mut names = BTreeMap::new();
    let mut states = BTreeMap::<String, BTreeMap<String, Vec<String>>>::new();
    loop {
        let line = lines.next(DEADLINE).await.expect("the watch goes on");
        let line = line.expect("history up to a revision that is there");
        let text = |name: &str| line["object"][name].as_str().unwrap_or_default().to_owned();
        match line["kind"].as_str() {
            Some("environment") => {
                names.insert(text("id"), text("name"));
            }
            Some("launch") if line["type"] == "PUT" => {
                let name: String = names[&text("environment_id")].clone();
                let on_instance = states.entry(name).or_default().entry(text("instance_arn")).or_default();
                // An empty look-up is noted in a launch that stays unknown.
                on_instance.push(text("state"));
                on_instance.dedup();
            }
            _ => {}
        }
        if line["revision"].as_u64() >= status["revision"].as_u64() {
            return states;
        }
    }
}

/// Instances or tasks named by each call of an operation that reached ECS.
async fn calls(simulator: &SimulatorProcess, operation: &str) -> Vec<Vec<String>> {
    let journal = simulator.get("/journal?from=1000000000&limit=10000").await;
    let calls = journal["calls"].as_array().expect("a list");
    let of_operation = calls.iter().filter(|call| call["operation"] == operation);
    of_operation
        .map(|call| crate::support::strings(&call["resources"]))
        .collect()
}

/// By the simulator's own count.
async fn judge(simulator: &SimulatorProcess, instances: &[String]) {
    let counts = simulator.counts("blox:").await;
    let environments = Moment::ALL.len();
    assert_eq!(counts.len(), instances.len() * environments, "{counts:?}");
    let one = |pair: &Value| pair["current"] == 1 && pair["maximum"] == 1;
    assert!(counts.iter().all(one), "not exactly one, or two at once: {counts:?}");
    let started: Vec<String> = calls(simulator, "StartTask").await.into_iter().flatten().collect();
    for instance in instances {
        let times = started.iter().filter(|named| *named == instance).count();
        assert_eq!(
            times, environments,
            "{instance} was named in {times} calls of StartTask"
        );
    }
    let stopped = calls(simulator, "StopTask").await;
    assert!(stopped.is_empty(), "nothing had to be stopped: {stopped:?}");
}
