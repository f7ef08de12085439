//! The run as a picture: what clients saw, with a band for each fault.

use serde_json::Value;

use super::folder::{Folder, FolderError};
use crate::check::history;
use crate::history::{Kind, Operation, Outcome};
use crate::timeline::{self, Band, Page};

/// Draws `timeline.svg` from the folder's other files.
pub fn draw(folder: &Folder) -> Result<(), FolderError> {
    let recorded = folder.read_history()?;
    let plan = folder.read_json(&folder.plan())?;
    let faults = if folder.faults().exists() {
        folder.read_lines(&folder.faults())?
    } else {
        Vec::new()
    };
    let operations: Vec<Operation> = recorded.operations.iter().filter_map(shown).collect();
    let began_ns = moment(&recorded, "load").unwrap_or(0);
    let last_ns = operations.iter().map(|one| one.ended_ns).max().unwrap_or(began_ns);
    let bands: Vec<Band> = faults.iter().map(band).collect();
    let subtitle = format!(
        "Operations that ended in each 50 ms: {} in all, over three nodes, {} a second of {}. Seed {}.",
        operations.len(),
        plan["rate"],
        words(&plan["workloads"]),
        plan["seed"]
    );
    let page = timeline::svg(&Page {
        title: "What clients see while the cluster is broken",
        subtitle: &subtitle,
        operations: &operations,
        began_ns,
        ended_ns: moment(&recorded, "wait").unwrap_or(last_ns).max(began_ns + 1),
        bands: &bands,
    });
    folder.write(&folder.chart(), page)
}

/// When a phase of the run began.
pub(super) fn moment(recorded: &history::History, phase: &str) -> Option<u64> {
    let events = recorded.events.iter();
    let mut phases = events.filter(|event| event.phase == history::Phase::Info && &*event.what == phase);
    phases.next().map(|event| event.at_ns)
}

fn shown(operation: &history::Operation) -> Option<Operation> {
    let kind = match &*operation.function {
        "read" | "stale" => Kind::Read,
        "list" | "query" => Kind::Query,
        _ => Kind::Write,
    };
    Some(Operation {
        kind,
        node: 0,
        began_ns: operation.began_ns,
        ended_ns: operation.ended_ns?,
        outcome: match operation.outcome {
            history::Outcome::Ok => Outcome::Ok,
            history::Outcome::Failed => Outcome::Failed,
            history::Outcome::Unknown => Outcome::Unknown,
        },
        attempts: 1,
        revision: operation.revision.unwrap_or(0),
    })
}

/// A fault, by a line of `faults.jsonl`.
pub(super) fn band(fault: &Value) -> Band {
    let ns = |name: &str| fault[name].as_u64().unwrap_or(0);
    let word = |name: &str| fault[name].as_str().unwrap_or_default();
    Band {
        name: format!("{} {}", word("nemesis"), word("target")),
        from_ns: ns("began_ns"),
        until_ns: ns("mended_ns"),
    }
}

/// A list in one sentence.
pub(super) fn words(list: &Value) -> String {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}
