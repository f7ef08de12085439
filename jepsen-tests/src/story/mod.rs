//! The story of `make failover`: chapter after chapter the cluster is broken and mended while clients use it, then everything is verified.

mod chapter;
mod chapters;
mod logs;
mod round;
mod stage;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use chapter::{Chapter, Promise};

use crate::clock::Clock;
use crate::compose::ComposeError;
use crate::history::Operation;
use crate::observe::NotInTime;
use crate::own_scheduler::{Moment, OwnError, Tally};
use crate::report;
use crate::screen::Screen;
use crate::simulator::SimulatorError;
use crate::verdict::{Span, Verdict};

use stage::Stage;

/// What is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The shipped compose file.
    pub compose_file: PathBuf,
    /// Compose files laid over it, in order.
    pub overrides: Vec<PathBuf>,
    /// The image of nodes and simulator.
    pub image: String,
    /// The example scheduler that runs beside the clients.
    pub own_scheduler: PathBuf,
    /// Where history, logs, time lines and summary go.
    pub folder: PathBuf,
    /// In this order, each round.
    pub chapters: Vec<Chapter>,
    /// How often the whole story is told, on one cluster.
    pub rounds: u32,
    /// Of every choice.
    pub seed: u64,
    /// Requests a second.
    pub per_second: u32,
    /// Times are allowed so many times as long, and the fleet lives so many times as slowly: for builds without optimisation.
    pub patience: u32,
    /// How long things last.
    pub pace: Pace,
}

/// How long the story dwells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Before and after each fault.
    pub quiet: Duration,
    /// A fault lasts so long after it was seen to have its effect.
    pub hold: Duration,
    /// When the example scheduler is killed.
    pub own_kills: Moment,
}

impl Pace {
    /// One round of all chapters takes some two minutes, and one more where a launch of the example scheduler was cut off.
    pub const FULL: Pace = Pace {
        quiet: Duration::from_secs(2),
        hold: Duration::from_secs(3),
        own_kills: Moment::AmidLaunch,
    };
    /// The short story.
    pub const SHORT: Pace = Pace {
        quiet: Duration::from_millis(500),
        hold: Duration::from_millis(1_500),
        own_kills: Moment::AtRest,
    };
}

/// The story cannot be told, or breaks off.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// The cluster did not do in time what it promises: a verdict, not an obstacle.
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
    /// Containers cannot be driven.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The other end does not answer.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// The example scheduler cannot be run.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// A fault had no effect: what follows would prove nothing.
    #[error("{what} was not seen to have an effect: {seen}")]
    NoEffect {
        /// The fault.
        what: String,
        /// What was seen instead.
        seen: String,
    },
    /// The machine has no room, or no sockets.
    #[error("cannot make a client: {0}")]
    Client(#[from] reqwest::Error),
    /// A file of the run.
    #[error("cannot write {path}: {source}")]
    NotWritten {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl StoryError {
    /// Whether it speaks against the cluster.
    pub fn is_verdict(&self) -> bool {
        matches!(self, StoryError::NotInTime(_) | StoryError::Own(OwnError::Late(_)))
    }
}

/// A round, told and verified.
#[derive(Debug)]
pub struct Round {
    /// Its chapters with their verdicts.
    pub chapters: Vec<(Span, Verdict)>,
    /// What no chapter is to blame for: sentences; none: clean.
    pub broken: Vec<String>,
    /// Changes that each of the streams told.
    pub changes: usize,
    /// Writes that were acknowledged, and read back.
    pub written: usize,
    /// Roll-outs that were begun.
    pub roll_outs: u32,
    /// Events that the simulated ECS sent.
    pub events: u64,
    /// What became of the example scheduler's copies, or why it was left out.
    pub own: Result<Tally, String>,
    /// For the time line.
    pub operations: Vec<Operation>,
    /// Its first moment.
    pub began_ns: u64,
    /// Its last one.
    pub ended_ns: u64,
}

impl Round {
    /// No promise is broken.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty() && self.chapters.iter().all(|(_, verdict)| verdict.broken.is_empty())
    }
}

/// What everything in containers carries that this process makes.
pub fn project() -> String {
    format!("blox-failover-{}", std::process::id())
}

/// Tells it all. Containers, volumes and networks are gone when this returns, or is dropped.
pub async fn tell(plan: &Plan) -> Result<Vec<Round>, StoryError> {
    let clock = Clock::start();
    let screen = Screen::new(clock);
    let mut stage = Stage::set_up(plan, clock, screen).await?;
    let told = rounds(plan, &mut stage).await;
    let panics = stage.keep_logs().await;
    let mut rounds = told?;
    if let Some(last) = rounds.last_mut() {
        last.broken.extend(panics?);
    }
    stage.recorder.flush().map_err(|source| StoryError::NotWritten {
        path: plan.folder.join("history.jsonl"),
        source,
    })?;
    Ok(rounds)
}

async fn rounds(plan: &Plan, stage: &mut Stage) -> Result<Vec<Round>, StoryError> {
    let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut rounds = Vec::new();
    for number in 1..=plan.rounds {
        let round = round::round(stage, plan, number, &mut random).await?;
        for (span, verdict) in &round.chapters {
            stage.screen.plain(&report::line(span, verdict));
            if let Some(said) = stage.recorder.first_failure(span.began_ns, span.ended_ns) {
                stage.screen.plain(&format!("        one that failed: {said}"));
            }
        }
        for sentence in &round.broken {
            stage.screen.plain(&format!("BROKEN  round {number}: {sentence}"));
        }
        report::write_timeline(plan, &round, number)?;
        rounds.push(Round {
            // Drawn; the summary needs them no more.
            operations: Vec::new(),
            ..round
        });
    }
    if plan.rounds > 1 {
        stage.verify_all_again().await?.into_iter().for_each(|sentence| {
            if let Some(last) = rounds.last_mut() {
                last.broken.push(sentence);
            }
        });
    }
    Ok(rounds)
}
