//! A run: set up, load and faults, heal, wait until whole, last reads, verdict, logs, clean up. Everything that a verdict rests on stands in the run's
//! folder; [`judge()`] needs nothing else.

mod base64;
mod campaign;
mod chart;
pub mod collect;
mod crashes;
mod folder;
mod judge;
mod judgement;
mod lives;
mod overrides;
mod plan;
mod probe;
mod recorder;
mod report;
mod run;
mod schedule;
mod stage;
mod sweep;
mod truth;

pub use campaign::{Campaign, CampaignError, Part, campaign};
pub use collect::CollectError;
pub use folder::{Folder, FolderError};
pub use judge::judge;
pub use judgement::{Check, Judgement};
pub use plan::Plan;
pub use recorder::{Call, End, Process, Recorder, Tally};
pub use report::report;
pub use run::{RunError, run};
pub use schedule::{Schedule, Wanted, plan as schedule};
pub use sweep::PROJECT;
pub use truth::{Truth, TruthError, lines, word};
