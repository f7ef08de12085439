//! Campaigns and their reports, from the command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use blox_jepsen_tests::check::linear::agreement::agreement;
use blox_jepsen_tests::suite::{self, Folder, Goal, Judgement, Progress, State};
use clap::ValueEnum;

use super::{
    INVALID, UNDECIDED, Usual, VALID, clean_up_after_panic, duration, interrupted, plan, ready, span, tell, wanted,
};

/// Many runs.
#[derive(clap::Args)]
pub struct Campaign {
    #[command(flatten)]
    usual: Usual,
    /// No run of the first part (each fault in turn, then mixes) is begun after so long, all sessions of the campaign together.
    #[arg(long = "for", default_value = "60m", value_parser = span)]
    whole: Duration,
    /// What is to be reached after the first part: `issue` is what a release is asked to show.
    #[arg(long, value_enum, default_value_t)]
    goals: Goals,
    /// Further counts to reach, or other ones: `kill:leader=100,power-cut:all=50,corruptions=60,operations=1000000`.
    #[arg(long, value_delimiter = ',')]
    until: Vec<Goal>,
    /// No run is begun after so long in this session; said again, the campaign goes on.
    #[arg(long, value_parser = duration)]
    session: Option<Duration>,
    /// Its runs.
    #[arg(long, default_value = "target/jepsen/campaign")]
    out: PathBuf,
    /// Its state, from which it goes on, with charts of a few runs beside; campaign.json in its folder unless said.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Where the report is written; REPORT.md in its folder unless said.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Named sets of goals.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Goals {
    /// The first part is all.
    #[default]
    None,
    /// What a release is asked to show.
    Issue,
}

/// One page of campaigns.
#[derive(clap::Args)]
pub struct Report {
    /// States of campaigns, or folders in which one stands.
    #[arg(required = true)]
    states: Vec<PathBuf>,
    /// Where the report is written; REPORT.md beside the first state unless said.
    #[arg(long)]
    report: Option<PathBuf>,
    /// What the tests made of deliberate bugs, if that was tried.
    #[arg(long, default_value = "jepsen-tests/zoo.json")]
    zoo: PathBuf,
    /// What was found and mended on the way, kept by hand.
    #[arg(long, default_value = "jepsen-tests/FOUND.md")]
    found: PathBuf,
}

/// Checker and brute force.
#[derive(clap::Args)]
pub struct Agree {
    /// How many.
    #[arg(long, default_value_t = 100_000)]
    histories: u64,
    /// Which ones; printed, so that they can be judged again.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs until it is over, and writes its report; the exit code.
pub async fn campaign(arguments: Campaign) -> anyhow::Result<u8> {
    let mut usual = plan(&arguments.usual, arguments.out.clone())?;
    let state = arguments.state.clone();
    let state = state.unwrap_or_else(|| Folder::open(&arguments.out).campaign());
    if arguments.usual.seed.is_none() && state.exists() {
        // It goes on with its own.
        usual.seed = State::read(&state)?.seed();
    }
    ready(&usual).await?;
    clean_up_after_panic(&usual);
    let nemeses = wanted(&arguments.usual.nemesis)?.into_iter().map(|one| one.nemesis);
    let asked = suite::Campaign {
        nemeses: nemeses.collect(),
        folder: arguments.out.clone(),
        state: state.clone(),
        time: arguments.whole,
        goals: goals(arguments.goals, &arguments.until),
        session: arguments.session,
        usual,
    };
    println!("seed {}", asked.usual.seed);
    let (ended, progress) = tokio::select! {
        ended = suite::campaign(&asked, Teller { asked: &asked }) => ended?,
        stopped = interrupted() => return stopped,
    };
    report(&Report {
        states: vec![state],
        report: arguments.report,
        zoo: PathBuf::from("jepsen-tests/zoo.json"),
        found: PathBuf::from("jepsen-tests/FOUND.md"),
    })?;
    let code = ended.exit_code();
    // Goals that cannot be reached here leave a question open.
    Ok(if code == VALID && !progress.in_vain.is_empty() {
        UNDECIDED
    } else {
        code
    })
}

/// What is to be reached: further counts stand in the place of those of the same name.
fn goals(named: Goals, until: &[Goal]) -> Vec<Goal> {
    let mut goals = match named {
        Goals::None => Vec::new(),
        Goals::Issue => suite::issue(),
    };
    for goal in until {
        goals.retain(|one| one.counted != goal.counted);
        goals.push(*goal);
    }
    goals
}

/// Tells a campaign on the screen.
struct Teller<'a> {
    asked: &'a suite::Campaign,
}

impl suite::Told for Teller<'_> {
    fn run(&self, part: &suite::Part, judgement: &Judgement) {
        tell(judgement, &self.asked.folder.join(part.folder()));
    }

    fn progress(&self, first_part: Duration, progress: &Progress) {
        let minutes = |time: Duration| time.as_secs() / 60;
        let whole = self.asked.time;
        println!(
            "\nfirst part: {} of {} minutes",
            minutes(first_part.min(whole)),
            minutes(whole)
        );
        for (goal, done) in &progress.goals {
            let reached = if *done >= goal.count { "reached" } else { "" };
            println!("  {:<22} {done:>8} of {:<8} {reached}", goal.counted.word(), goal.count);
        }
        for family in &progress.in_vain {
            println!("  set aside, the last runs brought it nothing: {}", family.word());
        }
        let left = whole.saturating_sub(first_part) + Duration::from_secs_f64(progress.left_s);
        println!("about {} minutes to go", minutes(left) + 1);
    }
}

/// Writes the report.
pub fn report(arguments: &Report) -> anyhow::Result<()> {
    let states = arguments.states.iter().map(|path| match path.is_dir() {
        true => State::read(&Folder::open(path).campaign()),
        false => State::read(path),
    });
    let states: Vec<State> = states.collect::<Result<_, _>>()?;
    let beside = || states.first().map(|state| state.path().with_file_name("REPORT.md"));
    let to = arguments.report.clone().or_else(beside).unwrap_or_default();
    let folder = Folder::open(to.parent().unwrap_or(Path::new(".")));
    let zoo = match arguments.zoo.exists() {
        true => Some(folder.read_json(&arguments.zoo)?),
        false => None,
    };
    let found = match arguments.found.exists() {
        true => Some(folder.read(&arguments.found)?),
        false => None,
    };
    let page = suite::Page {
        states: &states,
        zoo: zoo.as_ref(),
        found: found.as_deref(),
        folder: folder.path(),
    };
    folder.write(&to, suite::report(&page))?;
    println!("report: {}", to.display());
    Ok(())
}

/// Compares, and tells; the exit code.
pub fn agree(arguments: &Agree) -> u8 {
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed}");
    let found = agreement(seed, arguments.histories);
    for told in &found.told {
        println!("{told}\n");
    }
    println!(
        "{} histories, {} of them linearizable, {} with unknown outcomes: the checker and brute force differ on {}",
        found.histories, found.good, found.unknowns, found.differ
    );
    if found.differ > 0 { INVALID } else { VALID }
}
