//! The chapters of the story, and what each may cost.

use std::time::Duration;

use clap::ValueEnum;

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Chapter {
    /// kill -9 of the leader.
    Kill,
    /// The leader stands still, then goes on.
    Pause,
    /// The leader is cut off from its peers; clients and ECS still reach it.
    Cut,
    /// SIGTERM of the leader.
    Stop,
    /// A follower's container is removed and made anew on its volume.
    Remake,
    /// A node is lost with its volume; another takes its place.
    Replace,
    /// kill -9 of all three at once.
    KillAll,
    /// SIGTERM of one node after another.
    Rolling,
}

/// What is promised of a chapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Longest time without an acknowledged write.
    pub pause_max: Duration,
    /// A client that tries another node once sees no request fail that began later than this after the fault; zero: none at all; `None`: any.
    pub fails_until: Option<Duration>,
    /// A node that says ready answers no 5xx.
    pub ready_is_true: bool,
    /// Longest time from SIGTERM to the end of the process.
    pub exit_max: Option<Duration>,
}

/// An election that goes wrong once, on a busy machine: detection 0.3 s, election 0.3 s, and again.
const ELECTION_MAX: Duration = Duration::from_secs(3);
/// Nobody has to notice anything: who leaves hands over, who follows is not missed.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);
/// All three are down until Docker has started two of them.
const START_MAX: Duration = Duration::from_secs(20);
/// A graceful stop.
const EXIT_MAX: Duration = Duration::from_secs(5);

impl Chapter {
    /// All of them, as the story goes.
    pub const ALL: [Chapter; 8] = [
        Chapter::Kill,
        Chapter::Pause,
        Chapter::Cut,
        Chapter::Stop,
        Chapter::Remake,
        Chapter::Replace,
        Chapter::KillAll,
        Chapter::Rolling,
    ];
    /// Those of the short story.
    pub const SHORT: [Chapter; 5] = [
        Chapter::Kill,
        Chapter::Cut,
        Chapter::Stop,
        Chapter::Replace,
        Chapter::KillAll,
    ];

    /// As it is named on the command line, in the history and in the summary.
    pub fn word(self) -> &'static str {
        match self {
            Chapter::Kill => "kill",
            Chapter::Pause => "pause",
            Chapter::Cut => "cut",
            Chapter::Stop => "stop",
            Chapter::Remake => "remake",
            Chapter::Replace => "replace",
            Chapter::KillAll => "kill-all",
            Chapter::Rolling => "rolling",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Chapter::Kill => "leader killed",
            Chapter::Pause => "leader paused",
            Chapter::Cut => "leader cut off from its peers",
            Chapter::Stop => "leader asked to leave",
            Chapter::Remake => "follower's container made anew",
            Chapter::Replace => "node lost with its volume",
            Chapter::KillAll => "all three killed",
            Chapter::Rolling => "rolling restart",
        }
    }

    /// What it may cost.
    pub fn promise(self) -> Promise {
        let promise = |pause_max, fails_until| Promise {
            pause_max,
            fails_until,
            ready_is_true: false,
            exit_max: None,
        };
        match self {
            Chapter::Kill | Chapter::Pause | Chapter::Cut | Chapter::Replace => {
                // What the old leader held is lost with it, and a second node that is drawn by lot may be the old leader.
                promise(ELECTION_MAX, Some(ELECTION_MAX))
            }
            Chapter::Remake => promise(HAND_OVER_MAX, Some(Duration::ZERO)),
            Chapter::KillAll => promise(START_MAX, None),
            Chapter::Stop | Chapter::Rolling => Promise {
                ready_is_true: true,
                exit_max: Some(EXIT_MAX),
                ..promise(HAND_OVER_MAX, Some(Duration::ZERO))
            },
        }
    }
}
