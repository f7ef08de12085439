//! An hour of even load with a node killed now and then: nothing grows, nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand_chacha::rand_core::RngCore;
use serde_json::json;

use crate::flatness::{Allowance, growths};
use crate::harness::{Cluster, REGION, SimulatorProcess, count, report, seeded, soak_directory};
use crate::sampler::Samples;
use crate::writers::Writers;

const WRITERS: u32 = 30;
const WRITES_PER_SECOND: u32 = 300;
const EVENTS_PER_SECOND: u64 = 100;
/// Events the simulator is asked for at a time.
const EVENTS_AT_ONCE: u64 = 500;
/// Instances that events tell of, in turn.
const INSTANCES: usize = 50;
/// A node that was killed comes back after this.
const AWAY: Duration = Duration::from_secs(3);
/// At the pace of the load what is kept is some two minutes of it, so that compaction has work all the time.
const HISTORY: &str = "[history]\nrevisions = 50000\ncheck = \"10s\"\n";
/// Load below this part of what was asked would prove too little.
const PACE_MIN: f64 = 0.9;
/// The same in the short run, which has a kill each seven seconds.
const PACE_MIN_SHORT: f64 = 0.5;

/// How long it takes, how often a node is killed, how often the nodes are measured, and what a quantity may grow by.
struct Plan {
    duration: Duration,
    kill_each: Duration,
    sample_each: Duration,
    allowance: Allowance,
}

impl Plan {
    /// In the short form caches still fill: it shows that the test works, and what is lost or differs.
    fn new() -> Plan {
        let minutes = std::env::var("BLOX_SOAK_MINUTES")
            .ok()
            .and_then(|text| text.parse().ok());
        let duration = minutes.map_or(
            count(Duration::from_secs(20), Duration::from_secs(3_600)),
            |minutes: f64| Duration::from_secs_f64(minutes * 60.0),
        );
        let long = duration >= Duration::from_secs(30 * 60);
        Plan {
            duration,
            kill_each: (duration / 3).min(Duration::from_secs(300)),
            sample_each: if long {
                Duration::from_secs(5)
            } else {
                Duration::from_millis(500)
            },
            allowance: if long {
                Allowance { part: 0.15, more: 16.0 }
            } else {
                Allowance { part: 1.0, more: 96.0 }
            },
        }
    }
}

/// 300 writes and 100 events of ECS a second, and every five minutes a kill -9 of some node: memory, file handles and disk of every node
/// stay flat once caches are full and the history's limit is reached; every acknowledged write is there, applied once; the state is what
/// ECS is; and the chained hashes are equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak() {
    let plan = Plan::new();
    let (seed, mut random) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    let simulator = Arc::new(simulator);
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::start_with(directory, &simulator.url(), &[source], HISTORY).await;
    cluster.reconciled().await;

    let events = Events::start(Arc::clone(&simulator));
    let mut writers = Writers::start(&cluster, WRITERS, WRITES_PER_SECOND);
    let (mut samples, mut kills) = (Samples::default(), Vec::new());
    let started = Instant::now();
    let (mut next_kill, mut next_sample) = (plan.kill_each, Duration::ZERO);
    let mut down: Option<(usize, Duration)> = None;
    while started.elapsed() < plan.duration {
        let now = started.elapsed();
        writers.assert_run();
        if now >= next_sample {
            samples.take(&mut cluster.nodes, now.as_secs_f64());
            next_sample += plan.sample_each;
            write_down(&plan, &samples, &kills);
        }
        match down {
            Some((node, until)) if now >= until => {
                cluster.nodes[node].start();
                down = None;
            }
            None if now >= next_kill && now + 2 * AWAY < plan.duration => {
                let node = random.next_u32() as usize % cluster.nodes.len();
                cluster.nodes[node].kill().await;
                println!("{:.0} s: killed {}", now.as_secs_f64(), cluster.nodes[node].name);
                kills.push((now.as_secs_f64(), node));
                down = Some((node, now + AWAY));
                next_kill += plan.kill_each;
            }
            _ => {}
        }
        for node in cluster.nodes.iter_mut().filter(|node| node.runs()) {
            node.assert_runs();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if let Some((node, _)) = down {
        cluster.nodes[node].start();
    }
    let ran = started.elapsed();
    let sent = events.stop().await;
    for position in 0..cluster.nodes.len() {
        cluster.ready(position).await;
    }
    let written = writers.stop_and_check(&cluster).await;
    cluster.holds_the_truth_of(&simulator, REGION).await;
    let (index, hash) = cluster.same_state().await;
    write_down(&plan, &samples, &kills);

    let acknowledged = written.acknowledged.load(Ordering::Relaxed);
    let attempts = written.second_attempts.load(Ordering::Relaxed);
    let longest_ms = written.longest_ms.load(Ordering::Relaxed);
    println!(
        "{acknowledged} writes acknowledged ({attempts} further attempts, longest {longest_ms} ms) and {sent} events in {:.0} s, {} kills; \
         equal states at log index {index}: {hash}",
        ran.as_secs_f64(),
        kills.len()
    );
    let found = growths(&samples, &plan.allowance);
    let mut figures = vec![
        ("minutes".to_owned(), format!("{:.1}", ran.as_secs_f64() / 60.0)),
        ("writes".to_owned(), acknowledged.to_string()),
        ("events".to_owned(), sent.to_string()),
        ("kills".to_owned(), kills.len().to_string()),
        ("lost".to_owned(), "0".to_owned()),
        ("longest write".to_owned(), format!("{longest_ms} ms")),
    ];
    for growth in &found {
        println!("{growth:?}");
        figures.push((
            format!("{} of {}", growth.quantity, growth.node),
            format!("{:.0} to {:.0} (most {:.0})", growth.early, growth.late, growth.highest),
        ));
    }
    let growing: Vec<_> = found.iter().filter(|growth| !growth.flat).collect();
    assert!(growing.is_empty(), "not flat: {growing:#?}");
    let seconds = ran.as_secs_f64();
    let pace_min = count(PACE_MIN_SHORT, PACE_MIN);
    assert!(
        acknowledged as f64 >= pace_min * seconds * f64::from(WRITES_PER_SECOND)
            && sent as f64 >= pace_min * seconds * EVENTS_PER_SECOND as f64,
        "too little load to prove anything: {acknowledged} writes, {sent} events in {seconds:.0} s"
    );
    let figures: Vec<(&str, &str)> = figures
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    report("row 20 soak", &figures);
}

/// The samples so far, for those who look while it runs.
fn write_down(plan: &Plan, samples: &Samples, kills: &[(f64, usize)]) {
    let directory = soak_directory();
    let subtitle = format!(
        "{:.0} minutes, {WRITES_PER_SECOND} writes and {EVENTS_PER_SECOND} events a second, {} kills; two cores shared with the load",
        plan.duration.as_secs_f64() / 60.0,
        kills.len()
    );
    for (name, text) in [
        ("soak.csv", samples.csv()),
        (
            "soak.svg",
            samples.chart("Three nodes under even load", &subtitle, kills),
        ),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

/// The simulated ECS changes at an even pace.
struct Events {
    sent: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    running: tokio::task::JoinHandle<()>,
}

impl Events {
    fn start(simulator: Arc<SimulatorProcess>) -> Events {
        let (sent, stopping) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ending) = (Arc::clone(&sent), Arc::clone(&stopping));
        let running = tokio::spawn(async move {
            while !ending.load(Ordering::Relaxed) {
                let flood = json!({"cluster": "alpha", "events": EVENTS_AT_ONCE, "per_second": EVENTS_PER_SECOND});
                simulator.post("/flood", flood).await;
                counted.fetch_add(EVENTS_AT_ONCE, Ordering::Relaxed);
            }
        });
        Events {
            sent,
            stopping,
            running,
        }
    }

    /// How many there were.
    async fn stop(self) -> u64 {
        self.stopping.store(true, Ordering::Relaxed);
        self.running.await.expect("the simulator answers");
        self.sent.load(Ordering::Relaxed)
    }
}
