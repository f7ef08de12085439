//! Workloads and faults on the shipped compose file, recorded and judged. Exit code 0: every promise was kept; 1: one was broken; 2: it could not be
//! run, or not be decided; 64: wrong usage.

#[path = "jepsen-tests/campaigns.rs"]
mod campaigns;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use blox_jepsen_tests::clock::Clock;
use blox_jepsen_tests::lossy::{self, Durability};
use blox_jepsen_tests::nemesis::{self, Disks, Nemesis, Target};
use blox_jepsen_tests::screen::Screen;
use blox_jepsen_tests::suite::{self, Folder, Judgement, Plan, Rhythm, Wanted};
use blox_jepsen_tests::workload::Workload;
use blox_jepsen_tests::{check, command, compose, relay};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

const VALID: u8 = 0;
const INVALID: u8 = 1;
const UNDECIDED: u8 = 2;
const USAGE: u8 = 64;

/// Breaks a cluster in containers while clients use it, and judges what they saw.
#[derive(Parser)]
#[command(name = "jepsen-tests")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// One run: load and faults, then the verdict.
    Run(Run),
    /// Many runs, faults in turn and then mixed; goes on where it was stopped. Writes a report.
    Campaign(campaigns::Campaign),
    /// One report of one or more campaigns, from their states.
    Report(campaigns::Report),
    /// Judges small random histories by the checker and by brute force.
    Agree(campaigns::Agree),
    /// What there is: workloads, faults, targets.
    List,
    /// Judges a run's folder again from its files, or one history by one model.
    Check(Check),
    /// Writes a run's registers and lists as EDN, for Knossos and elle-cli.
    Edn(Edn),
    /// Nodes with deliberate bugs: whether the runs that are to catch them do.
    Zoo(Zoo),
    /// Holds packets in the network namespace that it is started in.
    #[command(hide = true)]
    Relay(relay::Order),
    /// Serves a disk that loses what was not synced, until its standard input ends.
    #[command(hide = true)]
    LossyDisk(LossyDisk),
}

#[derive(clap::Args)]
struct LossyDisk {
    /// What the disk holds of files; must be empty.
    #[arg(long)]
    backing: PathBuf,
    /// Where it is mounted.
    #[arg(long)]
    mount: PathBuf,
    /// The socket where it is told what to do.
    #[arg(long)]
    control: PathBuf,
    /// Names are durable in the order in which they were made, with the next sync of anything, as a journal makes them.
    #[arg(long)]
    ordered: bool,
}

#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    usual: Usual,
    /// Faults at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    mix: u8,
    /// How faults follow each other.
    #[arg(long, value_enum, default_value_t, conflicts_with = "mix")]
    rhythm: Rhythm,
    /// Where everything goes.
    #[arg(long, default_value = "target/jepsen/run")]
    out: PathBuf,
}

/// What every run needs.
#[derive(clap::Args)]
struct Usual {
    /// Side by side; `all` is every one.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    workload: Vec<String>,
    /// In turn, `kill` or `kill:leader`; `all` is every one, `none` none.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    nemesis: Vec<String>,
    /// How long the load lasts: `60s`, `5m`.
    #[arg(long, default_value = "60s", value_parser = duration)]
    time: Duration,
    /// Requests a second, over all workloads and nodes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    rate: u32,
    /// Of every choice; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// Times are allowed so many times as long: for builds without optimisation and busy machines.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    patience: u32,
    /// The shipped compose file.
    #[arg(long, default_value = "docker-compose.yml")]
    compose_file: PathBuf,
    /// Further compose files over it.
    #[arg(long, value_delimiter = ',')]
    overrides: Vec<PathBuf>,
    /// The image of nodes and simulator; deploy/image.sh makes it.
    #[arg(long, env = "BLOX_IMAGE", default_value = "blox:local")]
    image: String,
}

#[derive(clap::Args)]
struct Check {
    /// A history is judged by this model alone.
    #[arg(long)]
    model: Option<Model>,
    /// The folder of a run, or with --model a history.
    path: PathBuf,
}

#[derive(clap::Args)]
struct Edn {
    /// Of a run.
    folder: PathBuf,
    /// Where the files go: one a key of the register workload, one of all lists; `edn` in the run's folder unless said.
    #[arg(long)]
    to: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Zoo {
    /// Which bugs, by their words; `all` is every one.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    bug: Vec<String>,
    /// A bug may take so many runs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    runs: u64,
    /// Of the first of them; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The same runs are not done without the bugs.
    #[arg(long)]
    without_control: bool,
    /// Times are allowed so many times as long.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    patience: u32,
    /// The shipped compose file.
    #[arg(long, default_value = "docker-compose.yml")]
    compose_file: PathBuf,
    /// The image of nodes that can carry bugs; `make zoo` makes it.
    #[arg(long, default_value = "blox:zoo")]
    image: String,
    /// Its runs, and its state, from which it goes on.
    #[arg(long, default_value = "target/jepsen/zoo")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Model {
    /// Linearizable keys with revisions.
    Register,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that nobody reads is no error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { VALID });
        }
    };
    let done = match arguments.command {
        Verb::Run(arguments) => run(arguments).await,
        Verb::Campaign(arguments) => campaigns::campaign(arguments).await,
        Verb::Report(arguments) => campaigns::report(&arguments).map(|()| VALID),
        Verb::Agree(arguments) => Ok(campaigns::agree(&arguments)),
        Verb::List => {
            list();
            Ok(VALID)
        }
        Verb::Check(arguments) => judge(&arguments),
        Verb::Edn(arguments) => edn(&arguments),
        Verb::Relay(order) => relay::run(order).await.map(|()| VALID).map_err(Into::into),
        Verb::LossyDisk(arguments) => lossy_disk(arguments).await,
        Verb::Zoo(arguments) => zoo(arguments).await,
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("jepsen-tests: {error:#}");
            ExitCode::from(if error.is::<Usage>() { USAGE } else { UNDECIDED })
        }
    }
}

/// What was asked for makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

async fn run(arguments: Run) -> anyhow::Result<u8> {
    let plan = Plan {
        wanted: wanted(&arguments.usual.nemesis)?,
        lanes: arguments.mix.into(),
        rhythm: arguments.rhythm,
        ..plan(&arguments.usual, arguments.out)?
    };
    ready(&plan).await?;
    clean_up_after_panic(&plan);
    println!("seed {} (repeat with: {})", plan.seed, plan.command());
    let clock = Clock::start();
    let judgement = tokio::select! {
        judgement = suite::run(&plan, Screen::new(clock), clock) => judgement?,
        stopped = interrupted() => return stopped,
    };
    tell(&judgement, &plan.folder);
    Ok(judgement.verdict().exit_code())
}

/// What runs need of this machine.
async fn ready(plan: &Plan) -> anyhow::Result<()> {
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
    Ok(())
}

fn clean_up_after_panic(plan: &Plan) {
    let told_of_panic = std::panic::take_hook();
    let (project, scratch) = (plan.project.clone(), plan.scratch.clone());
    std::panic::set_hook(Box::new(move |panic| {
        told_of_panic(panic);
        // A release aborts now, and drops nothing.
        compose::remove_all(&project);
        nemesis::remove_disks(&Disks::root(&scratch, &project));
    }));
}

/// Without faults.
fn plan(usual: &Usual, folder: PathBuf) -> anyhow::Result<Plan> {
    Ok(Plan {
        project: format!("{}{}", suite::PROJECT, std::process::id()),
        workloads: workloads(&usual.workload)?,
        wanted: Vec::new(),
        compose_file: usual.compose_file.clone(),
        overrides: usual.overrides.clone(),
        image: usual.image.clone(),
        scratch: folder.clone(),
        folder,
        lanes: 1,
        rhythm: Rhythm::Loose,
        time: usual.time,
        per_second: usual.rate,
        seed: usual.seed.unwrap_or_else(|| rand::random::<u32>().into()),
        patience: usual.patience,
        settings: Vec::new(),
    })
}

fn workloads(words: &[String]) -> Result<Vec<Workload>, Usage> {
    let mut all = Vec::new();
    for word in words {
        match word.as_str() {
            "all" => all.extend(Workload::value_variants()),
            word => all.push(
                Workload::from_str(word, false)
                    .map_err(|_| Usage(format!("there is no workload `{word}`; `jepsen-tests list` names all")))?,
            ),
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn wanted(words: &[String]) -> Result<Vec<Wanted>, Usage> {
    let mut all = Vec::new();
    for word in words {
        match word.as_str() {
            "none" => {}
            "all" => all.extend(Nemesis::ALL.map(|nemesis| Wanted { nemesis, target: None })),
            word => all.push(word.parse().map_err(Usage)?),
        }
    }
    Ok(all)
}

fn list() {
    println!("Workloads (--workload), side by side on keys of their own:");
    for workload in Workload::value_variants() {
        println!("  {:<12} {}", workload.word(), workload.title());
    }
    println!("\nFaults (--nemesis), each `name` or `name:target`:");
    for nemesis in Nemesis::value_variants() {
        let targets: Vec<&str> = nemesis.targets().iter().map(|target| target.word()).collect();
        println!(
            "  {:<12} {:<42} on {}",
            nemesis.word(),
            nemesis.title(),
            targets.join(", ")
        );
    }
    let targets: Vec<&str> = Target::value_variants().iter().map(|target| target.word()).collect();
    println!("\nTargets: {}", targets.join(", "));
}

fn judge(arguments: &Check) -> anyhow::Result<u8> {
    if let Some(Model::Register) = arguments.model {
        let path = &arguments.path;
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let history = check::history::History::read(std::io::BufReader::new(file))
            .with_context(|| format!("{} is no history", path.display()))?;
        let verdict = check::linear::check(&history);
        println!("{verdict}");
        return Ok(verdict.exit_code());
    }
    let folder = Folder::open(&arguments.path);
    let judgement = suite::judge(&folder)?;
    folder.write(&folder.verdict(), format!("{:#}\n", judgement.to_json()))?;
    tell(&judgement, &arguments.path);
    Ok(judgement.verdict().exit_code())
}

fn edn(arguments: &Edn) -> anyhow::Result<u8> {
    let folder = Folder::open(&arguments.folder);
    let to = arguments.to.clone().unwrap_or_else(|| folder.path().join("edn"));
    let history = folder.read_history()?;
    let mut keys: Vec<&str> = history.operations.iter().map(|operation| &*operation.key).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys.iter().filter(|key| key.starts_with("register/")) {
        let mut text = Vec::new();
        check::edn::register(&history, key, &mut text)?;
        folder.write(&to.join(format!("{}.edn", key.replace('/', "-"))), text)?;
    }
    let lists = history.only(|operation| operation.key.starts_with("append/"));
    let mut text = Vec::new();
    check::edn::list_append(&lists, &mut text)?;
    folder.write(&to.join("append.edn"), text)?;
    println!("{}", to.display());
    Ok(VALID)
}

async fn lossy_disk(arguments: LossyDisk) -> anyhow::Result<u8> {
    let durability = if arguments.ordered {
        Durability::Ordered
    } else {
        Durability::Strict
    };
    lossy::serve(&arguments.backing, &arguments.mount, &arguments.control, durability).await?;
    Ok(VALID)
}

async fn zoo(arguments: Zoo) -> anyhow::Result<u8> {
    let usual = Usual {
        workload: Vec::new(),
        nemesis: Vec::new(),
        time: Duration::ZERO,
        rate: 1,
        seed: Some(arguments.seed),
        patience: arguments.patience,
        compose_file: arguments.compose_file,
        overrides: Vec::new(),
        image: arguments.image,
    };
    let asked = suite::zoo::Zoo {
        usual: plan(&usual, arguments.out.clone())?,
        exhibits: exhibits(&arguments.bug)?,
        runs: arguments.runs,
        control: !arguments.without_control,
        folder: arguments.out,
    };
    ready(&asked.usual).await?;
    clean_up_after_panic(&asked.usual);
    let told = |folder: &Path, judgement: &Judgement| tell(judgement, folder);
    let state = tokio::select! {
        state = suite::zoo::zoo(&asked, told) => state?,
        stopped = interrupted() => return stopped,
    };
    println!("\n{}", suite::zoo::table(&state));
    Ok(if suite::zoo::is_whole(&state, &asked.exhibits) {
        VALID
    } else {
        INVALID
    })
}

fn exhibits(words: &[String]) -> Result<Vec<&'static suite::zoo::Exhibit>, Usage> {
    if words.iter().any(|word| word == "all") {
        return Ok(suite::zoo::EXHIBITS.iter().collect());
    }
    let known = || suite::zoo::EXHIBITS.each_ref().map(|exhibit| exhibit.bug).join(", ");
    let found = words.iter().map(|word| {
        let missing = || Usage(format!("there is no bug `{word}`; there are {}", known()));
        suite::zoo::Exhibit::of(word).ok_or_else(missing)
    });
    found.collect()
}

fn tell(judgement: &Judgement, folder: &Path) {
    println!();
    for check in &judgement.checks {
        println!("{:<8} {}", check.verdict.word(), check.name);
        for sentence in check.verdict.sentences() {
            println!("         {sentence}");
        }
    }
    let counts = judgement.figures["by_function"].as_object();
    for (name, counts) in counts.into_iter().flatten() {
        println!(
            "{name}: {} ok, {} failed, {} unknown",
            counts["ok"], counts["failed"], counts["unknown"]
        );
    }
    println!("{}: {}", judgement.verdict().word(), folder.display());
}

/// `60s`, `5m`, or seconds; not none.
fn duration(text: &str) -> Result<Duration, String> {
    match span(text)? {
        Duration::ZERO => Err("nothing can be seen in no time".to_owned()),
        span => Ok(span),
    }
}

/// The same, or none: `0m`.
fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let wrong = || format!("`{text}` is no time such as 60s or 5m");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number.checked_mul(unit).ok_or_else(wrong)?))
}

/// Ctrl-C, SIGTERM, or a terminal that is gone: the run is dropped, and its containers with it.
async fn interrupted() -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
        _ = interrupt.recv() => {}
    }
    eprintln!("stopped: containers, volumes and network are removed");
    Ok(UNDECIDED)
}
