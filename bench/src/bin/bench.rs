//! `make bench`, `make bench-full`: measures Blox beside etcd. Exit code 0: everything was measured, whatever came of it; 2: it could not be; 64: wrong
//! usage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use blox_bench::figure::Figure;
use blox_bench::floor::Floor;
use blox_bench::load::Times;
use blox_bench::rows::{
    Extent, Settings, Sides, budget, failover, fleet, growth, growth_of_tasks, keys, memory, snapshot, steady, watches,
};
use blox_bench::server::{BloxOptions, Server};
use blox_bench::summary::{Run, floor_json, floor_lines, table, to_json};
use blox_bench::{chart, floor};
use clap::{Parser, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

const MEASURED: u8 = 0;
const NOT_MEASURED: u8 = 2;
const USAGE: u8 = 64;
/// Of each measure of the floor.
const FLOOR_TIMES: usize = 2_000;
/// Where data and logs are while it runs, below `--out`.
const DATA: &str = "bench-data";
/// Connections of all rows together.
const FILES: u64 = 8_192;

/// Measures Blox beside etcd: three members each, on loopback, in turn.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// The main rows, or all.
    #[arg(value_enum, default_value_t = ExtentName::Quick)]
    extent: ExtentName,
    /// Only these families of rows.
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Option<Vec<Family>>,
    /// Rounds of each row, on each side.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// What counts of a round, seconds; half a second before it does not. Quick: 2, full: 5.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// How long `steady` goes on, minutes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_440))]
    minutes: u32,
    /// Of keys, values and fleets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The release that is measured.
    #[arg(long, default_value = "target/release/blox")]
    blox: PathBuf,
    /// The peer: etcd 3.4 or newer.
    #[arg(long, env = "ETCD", default_value = "/usr/bin/etcd")]
    etcd: PathBuf,
    /// Where summary, table and charts go; data are below it while it runs.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExtentName {
    Quick,
    Full,
}

/// Rows that go together.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Family {
    /// Puts and gets.
    Keys,
    /// Where the time of one put goes.
    Budget,
    /// Watches.
    Watches,
    /// Memory.
    Memory,
    /// Leaders that die and leave.
    Failover,
    /// ECS: events, lists, reads. Needs `keys`, by which Blox 0.3's figures are brought to this machine.
    Fleet,
    /// A million keys, and many tasks (full only, unless it is asked for).
    Growth,
    /// A snapshot of 1 GiB while one client writes (full only, unless it is asked for).
    Snapshot,
    /// Full load for `--minutes`, and whether anybody is elected meanwhile (only where it is asked for).
    Steady,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help that nobody reads is no error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { MEASURED });
        }
    };
    match measured(&arguments) {
        Ok(()) => ExitCode::from(MEASURED),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(NOT_MEASURED)
        }
    }
}

/// One thread for all clients: what they use is counted, and the servers have the rest.
fn measured(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut hang_up = signal(SignalKind::hangup())?;
        // What was started ends with what holds it.
        tokio::select! {
            result = run(arguments) => result,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("told to stop"),
            _ = hang_up.recv() => bail!("nobody is there any more"),
        }
    })
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let extent = arguments.extent();
    allow_files()?;
    let seconds = arguments.seconds.unwrap_or(if extent == Extent::Quick { 2 } else { 5 });
    let directory = arguments.out.join(DATA);
    remove(&directory)?;
    fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let settings = Settings {
        extent,
        rounds: arguments.rounds as usize,
        times: Times {
            warm: Duration::from_millis(500),
            counts: Duration::from_secs(seconds),
        },
        seed: arguments.seed,
        blox: absolute(&arguments.blox)?,
        etcd: absolute(&arguments.etcd)?,
        directory: absolute(&directory)?,
    };
    let run = Run {
        rounds: settings.rounds,
        seconds: seconds as f64,
        seed: settings.seed,
        machine: machine(),
        peer: version(&settings.etcd)?,
    };
    println!(
        "{} beside {}, on {}; seed {}",
        settings.blox.display(),
        run.peer,
        run.machine,
        run.seed
    );
    if arguments.wants(Family::Fleet) && !arguments.wants(Family::Keys) {
        bail!("`fleet` needs `keys`: etcd's puts bring Blox 0.3's figures to this machine");
    }
    println!("\nwhat the machine allows");
    let floor = floor::floor(&settings.directory, FLOOR_TIMES).context("the floor cannot be measured")?;
    floor_lines(&floor).iter().for_each(|line| println!("{line}"));

    let mut measured = Measured::default();
    let result = rows(arguments, &settings, &floor, &mut measured, began).await;
    // What was measured before something failed is not lost.
    measured.write(arguments, &run, &floor)?;
    result?;
    remove(&directory)?;
    let out = arguments.out.display();
    println!(
        "{:.0} s; {out}/summary.json, {out}/table.md",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What has come of the rows so far.
#[derive(Default)]
struct Measured {
    figures: Vec<Figure>,
    /// Of the growth of keys.
    of_keys: Vec<growth::Point>,
    /// Of the growth of tasks.
    of_tasks: Vec<growth::Point>,
}

/// All that are wanted.
async fn rows(
    arguments: &Arguments,
    settings: &Settings,
    floor: &Floor,
    measured: &mut Measured,
    began: Instant,
) -> anyhow::Result<()> {
    rows_in_turn(arguments, settings, floor, &mut measured.figures, began).await?;
    rows_of_new_clusters(arguments, settings, measured, began).await
}

/// Of the two clusters that stand beside each other.
async fn rows_in_turn(
    arguments: &Arguments,
    settings: &Settings,
    floor: &Floor,
    figures: &mut Vec<Figure>,
    began: Instant,
) -> anyhow::Result<()> {
    let wants = |family: Family| arguments.wants(family);
    let title = |text: &str| say_title(text, began);
    if [Family::Keys, Family::Budget, Family::Watches, Family::Failover]
        .into_iter()
        .any(wants)
    {
        let mut sides = Sides {
            ours: Server::blox(&settings.blox, &settings.directory, &BloxOptions::default()).await?,
            peer: Server::etcd(&settings.etcd, &settings.directory).await?,
            floor: floor.clone(),
        };
        if wants(Family::Keys) {
            title("puts and gets");
            keys::measure(&sides, settings, figures).await?;
        }
        if wants(Family::Budget) {
            title("where the time of one put goes");
            figures.extend(budget::measure(&sides, settings).await?);
        }
        if wants(Family::Watches) {
            title("watches");
            figures.extend(watches::measure(&sides, settings).await?);
        }
        if wants(Family::Failover) {
            title("leaders die and leave");
            figures.extend(failover::measure(&mut sides, settings).await?);
        }
    }
    Ok(())
}

/// Of clusters that are started for them.
async fn rows_of_new_clusters(
    arguments: &Arguments,
    settings: &Settings,
    measured: &mut Measured,
    began: Instant,
) -> anyhow::Result<()> {
    let wants = |family: Family| arguments.wants(family);
    let title = |text: &str| say_title(text, began);
    let Measured {
        figures,
        of_keys,
        of_tasks,
    } = measured;
    if wants(Family::Memory) {
        title("memory");
        figures.extend(memory::measure(settings).await?);
    }
    if wants(Family::Fleet) {
        title("ECS");
        let name = format!("{}: throughput", keys::YARDSTICK);
        let yardstick = figures.iter().find(|figure| figure.name == name);
        let etcd_here = yardstick
            .and_then(Figure::peer_median)
            .context("the yardstick is a row of `keys`")?;
        figures.extend(fleet::measure(settings, etcd_here).await?);
    }
    if wants(Family::Growth) {
        title("growth");
        let (grown, medians) = growth::measure(settings).await?;
        figures.extend(grown);
        *of_keys = medians;
        title("growth of tasks");
        let (grown, medians) = growth_of_tasks::measure(settings).await?;
        figures.extend(grown);
        *of_tasks = medians;
    }
    if wants(Family::Snapshot) {
        title("a snapshot while writing");
        figures.extend(snapshot::measure(settings).await?);
    }
    if wants(Family::Steady) {
        title("full load for long");
        figures.extend(steady::measure(settings, arguments.minutes).await?);
    }
    Ok(())
}

fn say_title(text: &str, began: Instant) {
    println!("\n{text} ({:.0} s)", began.elapsed().as_secs_f64());
}

impl Measured {
    fn write(&self, arguments: &Arguments, run: &Run, floor: &Floor) -> anyhow::Result<()> {
        let path = |name: &str| arguments.out.join(name);
        let text = table(run, &self.figures);
        write(&path("summary.json"), &format!("{:#}\n", to_json(&self.figures)))?;
        write(&path("floor.json"), &format!("{:#}\n", floor_json(floor)))?;
        write(&path("table.md"), &text)?;
        for (name, chart) in [
            ("latency.svg", chart::latency_against_load(&self.figures)),
            (
                "growth.svg",
                chart::growth(&self.of_keys, "One client, by the number of keys", "keys"),
            ),
            (
                "growth-of-tasks.svg",
                chart::growth(&self.of_tasks, "One client, by the number of tasks", "tasks"),
            ),
        ] {
            if let Some(chart) = chart {
                let svg = chart.svg().map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
                write(&path(name), &svg)?;
            }
        }
        println!("\n{text}");
        Ok(())
    }
}

impl Arguments {
    fn extent(&self) -> Extent {
        match self.extent {
            ExtentName::Quick => Extent::Quick,
            ExtentName::Full => Extent::Full,
        }
    }

    fn wants(&self, family: Family) -> bool {
        match &self.rows {
            Some(rows) => rows.contains(&family),
            None => match family {
                Family::Steady => false,
                Family::Growth | Family::Snapshot => self.extent() == Extent::Full,
                _ => true,
            },
        }
    }
}

/// A client, a connection, a file.
fn allow_files() -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < FILES {
        setrlimit(Resource::RLIMIT_NOFILE, FILES.min(hard), hard).context("open files cannot be raised")?;
    }
    Ok(())
}

/// Its first line.
fn version(etcd: &Path) -> anyhow::Result<String> {
    let output = Command::new(etcd).arg("--version").output();
    let output = output.with_context(|| {
        format!(
            "{} cannot be run: install etcd-server, or name it by --etcd",
            etcd.display()
        )
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    Ok(first.replace("etcd Version:", "etcd").replace("  ", " "))
}

/// Processors, memory, kernel.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({model}), Linux {}", kernel.trim())
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    let cannot = || {
        format!(
            "there is no {}: build it first (make build), or name another",
            path.display()
        )
    };
    path.canonicalize().with_context(cannot)
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", directory.display()))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
