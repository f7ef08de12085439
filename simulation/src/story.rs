//! One run: a cluster and a fleet begin, callers and an operator work while things go wrong, everything is mended, and then it must all come
//! together and stay so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blox_raft::simulation;
use blox_runtime::random::between;
use blox_runtime::simulated::{Simulation, after_each_step, panics, spawn_outside};
use blox_runtime::time::{Instant, sleep};

use crate::clients::{self, Histories};
use crate::cluster::{Cluster, NAMES};
use crate::trace::Trace;
use crate::weather::Skies;
use crate::{duties, ending, faults, operator};

/// How long things go wrong, virtual time.
const TROUBLE: Duration = Duration::from_secs(12);
/// Once everything is mended, it must have come together within this, virtual time: events may be 12 s late, messages that a dead leader held
/// come back after 10 s, a launch whose call got lost is closed 11 s after its intent, and failures back off for a few seconds more.
const TOGETHER_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// From then on nothing more is done, for as long as this is looked at.
const PEACE: Duration = Duration::from_millis(1_500);
/// The nodes of a first start begin within this, milliseconds.
const BEGIN_MS_MAX: u64 = 400;

/// What came of a run.
pub struct Report {
    /// What happened.
    pub trace: Vec<String>,
    /// What the executor did, poll by poll, where it was asked for.
    pub steps_trace: Vec<String>,
    /// What was broken; nothing: all is well.
    pub violations: Vec<String>,
    /// Steps, each with a look at all rules.
    pub steps: u64,
    /// Operations of callers whose outcome is known.
    pub operations: usize,
    /// Virtual time it took to come together once all was mended.
    pub together_after: Option<Duration>,
}

/// Runs a seed.
pub fn run(seed: u64) -> Report {
    run_noting(seed, false)
}

/// As [`run`]; `steps`: with what the executor did.
pub fn run_noting(seed: u64, steps: bool) -> Report {
    duties::shorten_waits();
    let mut simulation = Simulation::new(seed);
    if steps {
        simulation.record_trace();
    }
    // Snapshots and identities are files; in memory where the machine has such a place.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let directory = directory.expect("a temporary directory");
    let mut report = simulation.run(story(directory.path()));
    report.steps_trace = simulation.take_trace();
    report
}

async fn story(directory: &Path) -> Report {
    let trace = Arc::new(Trace::default());
    let skies = Arc::new(Skies::new(trace.clone()));
    simulation::begin(skies.clone());
    let cluster = Cluster::new(directory, trace.clone());
    let observed = cluster.clone();
    after_each_step(move |process| observed.look(process));

    let until = Instant::now() + TROUBLE;
    let histories = Arc::new(Histories::default());
    for name in NAMES {
        let cluster = cluster.clone();
        let at = Duration::from_millis(between(0..=BEGIN_MS_MAX));
        spawn_outside(async move {
            sleep(at).await;
            cluster.start(name);
        });
    }
    clients::begin(&cluster, &histories, until);
    cluster.fleet.begin(until);
    operator::begin(&cluster, until);
    faults::trouble(cluster.clone(), skies.clone(), until).await;
    // The last faults end by themselves meanwhile; what does not is mended here.
    sleep(Duration::from_secs(2)).await;
    trace.say("everything is mended");
    skies.clear();
    cluster.call_ambush_off();
    for name in NAMES {
        cluster.hold(name, false);
        cluster.start(name);
    }
    cluster.fleet.mend();
    let together_after = match come_together(&cluster).await {
        Ok(after) => Some(after),
        Err(wrong) => {
            let mut checker = cluster.checker.lock();
            checker.violated(format!("liveness: not together within {TOGETHER_WITHIN:?}"));
            wrong.into_iter().for_each(|wrong| checker.violated(wrong));
            None
        }
    };
    if together_after.is_some() {
        for wrong in histories.judge(&cluster, &NAMES) {
            cluster.checker.lock().violated(wrong);
        }
        stay_together(&cluster).await;
    }
    for panic in panics() {
        cluster.checker.lock().violated(format!("a task panicked: {panic}"));
    }
    let checker = cluster.checker.lock();
    Report {
        trace: trace.lines(),
        steps_trace: Vec::new(),
        violations: checker.violations().to_vec(),
        steps: checker.steps(),
        operations: histories.operations(),
        together_after,
    }
}

/// Waits until everything is as it must be in the end; an error: what is not.
async fn come_together(cluster: &Cluster) -> Result<Duration, Vec<String>> {
    let began = Instant::now();
    loop {
        let wrong = ending::wrong(cluster);
        if wrong.is_empty() {
            return Ok(began.elapsed());
        }
        if began.elapsed() >= TOGETHER_WITHIN {
            return Err(wrong);
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// What is as it must be needs no more calls.
async fn stay_together(cluster: &Cluster) {
    let calls = cluster.fleet.modifying_calls();
    sleep(PEACE).await;
    let more = cluster.fleet.modifying_calls() - calls;
    if more > 0 {
        let wrong = format!("converged: {more} more calls although everything is as it is wanted");
        cluster.checker.lock().violated(wrong);
    }
}
