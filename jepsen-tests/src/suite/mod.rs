//! A run: set up, load and faults, heal, wait until whole, last reads, verdict, logs, clean up. Everything that a verdict rests on stands in the run's
//! folder; [`judge()`] needs nothing else.

mod base64;
mod campaign;
mod chart;
pub mod collect;
mod crashes;
mod fault_records;
mod folder;
mod goals;
mod judge;
mod judgement;
mod latency;
mod lives;
mod machine;
mod one_disk;
mod overrides;
mod plan;
mod probe;
mod progress;
mod recorder;
mod report;
mod rhythm;
mod run;
mod samples;
mod schedule;
mod spent;
mod stage;
mod state;
mod sweep;
mod truth;

pub use campaign::{Campaign, CampaignError, Part, Told, campaign};
pub use collect::CollectError;
pub use folder::{Folder, FolderError};
pub use goals::{Counted, Family, Goal, issue};
pub use judge::judge;
pub use judgement::{Check, Judgement};
pub use plan::Plan;
pub use progress::Progress;
pub use recorder::{Call, End, Process, Recorder, Tally};
pub use report::{Page, report};
pub use rhythm::Rhythm;
pub use run::{RunError, run};
pub use schedule::{Schedule, Wanted, plan as schedule};
pub use state::State;
pub use sweep::PROJECT;
pub use truth::{Truth, TruthError, lines, word};
