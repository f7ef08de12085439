//! Three nodes, a simulated ECS and a story, on this machine.
//!
//! - [`ports`], [`child`], [`cluster`]: what runs;
//! - [`nodes`]: asking whichever node answers;
//! - [`story`]: what happens, from `/v2/watch`, taken up on another node when one dies; [`teller`]: the sentence for each change;
//! - [`verdict`]: whether all is as it should be, by the nodes and by the simulator's own count;
//! - [`screen`]: how it is shown, to people or as JSON.

mod child;
mod cluster;
mod nodes;
mod ports;
mod screen;
mod story;
mod teller;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use crate::run::signals::Signals;
use cluster::Cluster;
use nodes::Nodes;
use screen::Screen;
use story::Story;

/// How long the nodes may take until all are ready and every source is reconciled.
const READY_SECONDS_MAX: u64 = 60;
/// How long the check at the end may take to come out well: the fleet is alive, so an instance may just have joined.
const VERDICT_SECONDS_MAX: u64 = 30;
/// How often the children are looked at.
const LOOK_MS: u64 = 500;
/// The simulated clusters, and the daemon that is deployed on each.
pub const CLUSTERS: [&str; 2] = ["alpha", "beta"];
/// The task definition of the daemons.
const TASK_DEFINITION: &str = "agent:1";

/// What the demo was asked for.
pub struct Options {
    /// End by itself after this, with a verdict.
    pub run_for: Option<Duration>,
    /// First of the three ports of the nodes' users.
    pub base_port: u16,
    /// Where nodes keep their data; not given: a temporary directory that is removed in the end.
    pub data: Option<PathBuf>,
    /// Seed of the simulated fleet.
    pub seed: u64,
    /// One JSON object a line instead of sentences.
    pub json: bool,
}

/// Runs it until its time is over, or until told to stop.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let screen = Screen::new(options.json);
    let place = Place::new(options.data.clone())?;
    let mut cluster = Cluster::start(&options, place.path(), &screen)?;
    let outcome = tokio::select! {
        outcome = act(&mut cluster, &options, &screen) => outcome,
        _ = signals.stop() => {
            screen.say("stopping", json!({}), "stopping everything ...");
            Ok(interrupted(&options))
        }
    };
    tokio::select! {
        () = cluster.stop() => {}
        _ = signals.stop() => {}
    }
    let well = matches!(outcome, Ok(code) if code == ExitCode::SUCCESS);
    place.leave(well, &screen);
    outcome
}

/// Who asked for a verdict after some time and stopped it before has none: that is no success.
fn interrupted(options: &Options) -> ExitCode {
    match options.run_for {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

async fn act(cluster: &mut Cluster, options: &Options, screen: &Screen) -> anyhow::Result<ExitCode> {
    let nodes = Nodes::new(cluster.urls());
    let started = Instant::now();
    cluster
        .wait_until_ready(&nodes, Duration::from_secs(READY_SECONDS_MAX))
        .await?;
    let seconds = started.elapsed().as_secs_f64();
    screen.say(
        "ready",
        json!({"seconds": seconds}),
        &format!("three nodes serve after {seconds:.1} s, and have seen the whole fleet"),
    );
    let mut story = Story::from_now(&nodes).await?;
    for name in CLUSTERS {
        deploy(&nodes, name, screen).await?;
    }
    screen.introduce(cluster);
    let pids = cluster
        .nodes()
        .iter()
        .map(|node| (node.name.clone(), node.pid))
        .collect();
    let ending = async {
        match options.run_for {
            Some(time) => tokio::time::sleep(time.saturating_sub(started.elapsed())).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = ending => {}
        failed = story.tell(&nodes, &pids, screen) => return failed.map(|()| ExitCode::FAILURE),
        ended = watch_children(cluster, screen) => return ended.map(|()| ExitCode::FAILURE),
    }
    let verdict = verdict::reach(cluster, &nodes, Duration::from_secs(VERDICT_SECONDS_MAX)).await;
    screen.conclude(&verdict);
    Ok(if verdict.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn deploy(nodes: &Nodes, cluster: &str, screen: &Screen) -> anyhow::Result<()> {
    let environment = format!("agent-{cluster}");
    let body = json!({"cluster": cluster, "task_definition": TASK_DEFINITION, "max_unavailable": 2});
    nodes
        .put(&format!("/v2/environments/{environment}"), &body)
        .await
        .with_context(|| format!("cannot deploy {TASK_DEFINITION} on {cluster}"))?;
    let sentence = format!("deployed {TASK_DEFINITION} on every instance of {cluster}, as environment {environment}");
    screen.say(
        "deployed",
        json!({"environment": environment, "cluster": cluster}),
        &sentence,
    );
    Ok(())
}

/// Tells of children that end; ends itself only when all nodes or the simulator are gone.
async fn watch_children(cluster: &mut Cluster, screen: &Screen) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        cluster.tell_of_the_dead(screen)?;
    }
}

/// Where the demo's files are.
enum Place {
    Temporary(tempfile::TempDir),
    Given(PathBuf),
}

impl Place {
    fn new(given: Option<PathBuf>) -> anyhow::Result<Place> {
        Ok(match given {
            Some(path) => {
                std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
                Place::Given(path)
            }
            None => Place::Temporary(
                tempfile::Builder::new()
                    .prefix("blox-demo-")
                    .tempdir()
                    .context("cannot create a temporary directory")?,
            ),
        })
    }

    fn path(&self) -> &std::path::Path {
        match self {
            Place::Temporary(directory) => directory.path(),
            Place::Given(path) => path,
        }
    }

    /// Removes what is temporary, unless something went wrong: then its logs are what explains it.
    fn leave(self, well: bool, screen: &Screen) {
        if let Place::Temporary(directory) = self
            && !well
        {
            let kept = directory.keep();
            screen.say(
                "kept",
                json!({"directory": kept}),
                &format!("logs and data are kept in {}", kept.display()),
            );
        }
    }
}
