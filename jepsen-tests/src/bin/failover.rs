//! `make failover`: a story of faults on the compose cluster, told while it happens. Exit code 0: every promise was kept; 1: one was broken;
//! 2: the story could not be told; 64: wrong usage.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use blox_jepsen_tests::command;
use blox_jepsen_tests::compose;
use blox_jepsen_tests::report;
use blox_jepsen_tests::story::{self, Chapter, Pace, Plan, StoryError};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

const CLEAN: u8 = 0;
const BROKEN: u8 = 1;
const NOT_TOLD: u8 = 2;
const USAGE: u8 = 64;

/// Breaks a cluster in containers, chapter by chapter, while clients use it, and says what they saw.
#[derive(Parser)]
#[command(name = "failover")]
struct Arguments {
    /// How often the whole story is told, on one cluster.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Of every choice; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// At most two minutes: fewer chapters, less dwelling.
    #[arg(long)]
    short: bool,
    /// Only these, in this order.
    #[arg(long, value_enum, value_delimiter = ',')]
    chapters: Option<Vec<Chapter>>,
    /// Requests a second over all three nodes.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Times are allowed so many times as long, and the fleet lives so many times as slowly: for builds without optimisation and busy machines.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    patience: u32,
    /// Where history, logs, time line and summary go.
    #[arg(long, default_value = "target/failover")]
    out: PathBuf,
    /// The shipped compose file.
    #[arg(long, default_value = "docker-compose.yml")]
    compose_file: PathBuf,
    /// Compose files laid over it, in this order.
    #[arg(long, value_delimiter = ',')]
    overrides: Vec<PathBuf>,
    /// The example scheduler that runs beside the clients; it needs a Python with boto3.
    #[arg(long, default_value = "examples/spread/spread.py")]
    own_scheduler: PathBuf,
    /// The image of nodes and simulator; deploy/image.sh makes it.
    #[arg(long, env = "BLOX_IMAGE", default_value = "blox:local")]
    image: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that nobody reads is no error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { CLEAN });
        }
    };
    let told_of_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told_of_panic(panic);
        // A release aborts now, and drops nothing.
        compose::remove_all(&story::project());
    }));
    let told = tokio::select! {
        told = run(arguments) => told,
        stopped = interrupted() => stopped,
    };
    match told {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let is_verdict = error.downcast_ref::<StoryError>().is_some_and(StoryError::is_verdict);
            eprintln!("{}: {error:#}", if is_verdict { "BROKEN" } else { "failover" });
            ExitCode::from(if is_verdict { BROKEN } else { NOT_TOLD })
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let plan = plan(arguments);
    command::run("docker", &["version", "--format", "{{.Server.Version}}"], &[])
        .await
        .context("Docker is needed")?;
    command::run("docker", &["image", "inspect", "--format", "{{.Id}}", &plan.image], &[])
        .await
        .with_context(|| format!("there is no image {}: deploy/image.sh makes it", plan.image))?;
    for file in std::iter::once(&plan.compose_file).chain(&plan.overrides) {
        if !file.is_file() {
            bail!(
                "{} is not there: run this in Blox's folder, or name the file by --compose-file or --overrides",
                file.display()
            );
        }
    }
    // Nothing of an earlier run is taken for this one's.
    if plan.folder.join("history.jsonl").exists() {
        std::fs::remove_dir_all(&plan.folder).with_context(|| format!("cannot empty {}", plan.folder.display()))?;
    }
    std::fs::create_dir_all(&plan.folder).with_context(|| format!("cannot make {}", plan.folder.display()))?;
    println!("seed {} (repeat with --seed {0})", plan.seed);
    let rounds = story::tell(&plan).await?;
    report::write_summary(&plan, &rounds)?;
    println!("\n{}\n\n{}", report::table(&plan, &rounds), report::last_word(&rounds));
    println!("Time line, history, logs and summary: {}", plan.folder.display());
    Ok(if rounds.iter().all(story::Round::is_clean) {
        CLEAN
    } else {
        BROKEN
    })
}

fn plan(arguments: Arguments) -> Plan {
    let usual = if arguments.short {
        Chapter::SHORT.to_vec()
    } else {
        Chapter::ALL.to_vec()
    };
    Plan {
        compose_file: arguments.compose_file,
        overrides: arguments.overrides,
        image: arguments.image,
        own_scheduler: arguments.own_scheduler,
        folder: arguments.out,
        chapters: arguments.chapters.unwrap_or(usual),
        rounds: arguments.rounds,
        seed: arguments.seed.unwrap_or_else(|| rand::random::<u32>().into()),
        per_second: arguments.rate,
        patience: arguments.patience,
        pace: if arguments.short { Pace::SHORT } else { Pace::FULL },
    }
}

/// Ctrl-C or SIGTERM: the story is dropped, and its containers with it.
async fn interrupted() -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    eprintln!("stopped: containers, volumes and network are removed");
    Ok(NOT_TOLD)
}
