//! What is kept of a campaign's runs: all files of those that broke a promise, of the others all files of a few, and of some a chart beside the state.

use std::path::Path;

use serde_json::{Value, json};

use super::folder::{Folder, FolderError};
use super::state::{Run, State};

/// Of the runs that kept every promise so many keep all their files; of the others a verdict and pictures.
const WHOLE_SAMPLES: usize = 2;
/// Of the runs of one sort so many have their chart beside the state.
const CHARTS: usize = 1;
/// A chart that is larger stays in its run's folder, bytes.
const CHART_BYTES_MAX: usize = 200_000;
/// What only whole samples keep.
const BULKY: [&str; 5] = ["history.jsonl", "changes.jsonl", "watch", "ecs", "logs"];

/// Keeps of a run what is to be kept; the run then names its chart.
pub fn keep(state: &State, folder: &Folder, number: usize, run: &mut Value) -> Result<(), FolderError> {
    if !Run(run).is_valid() {
        return Ok(());
    }
    let runs = state.runs();
    let sort = sort(Run(run));
    let charts = runs.iter().filter(|one| one.0["chart"].is_string());
    if charts.filter(|one| self::sort(**one) == sort).count() < CHARTS {
        let picture = folder.read(&folder.latency_chart())?;
        if picture.len() <= CHART_BYTES_MAX {
            let stem = state.path().file_stem().unwrap_or_default().to_string_lossy();
            let name = format!("{stem}-run-{number:03}.svg");
            folder.write(&state.path().with_file_name(&name), picture)?;
            run["chart"] = json!(name);
        }
    }
    if runs.iter().filter(|run| run.is_valid()).count() >= WHOLE_SAMPLES {
        lighten(folder.path())?;
    }
    Ok(())
}

/// In turn, in mixes, or for some goals.
fn sort(run: Run<'_>) -> (u64, Option<&str>) {
    (run.lanes(), run.serves())
}

fn lighten(folder: &Path) -> Result<(), FolderError> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let bulky = BULKY.contains(&name.as_str()) || name.starts_with("changes-");
        let removed = match (bulky, path.is_dir()) {
            (false, _) => Ok(()),
            (true, true) => std::fs::remove_dir_all(&path),
            (true, false) => std::fs::remove_file(&path),
        };
        removed.map_err(|source| FolderError::NotWritten { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn folder(name: &str) -> Folder {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-samples-{name}-{}", std::process::id())));
        for path in [
            folder.history(),
            folder.verdict(),
            folder.reader(1),
            folder.changes(1, "node-2"),
            folder.plan(),
            folder.latency_chart(),
        ] {
            folder.write(&path, "{}").expect("writable");
        }
        folder
    }

    fn files(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("there").flatten();
        let names: BTreeSet<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.into_iter().collect()
    }

    /// Of a run that is well only the small files stay.
    #[test]
    fn only_small_files_stay() {
        let folder = folder("small");
        lighten(folder.path()).expect("removable");
        let left = files(folder.path());
        std::fs::remove_dir_all(folder.path()).expect("removable");
        assert_eq!(left, ["latency.svg", "plan.json", "verdict.json"]);
    }

    /// The first runs keep all; one chart of each sort stands beside the state; a run that broke a promise keeps everything.
    #[test]
    fn a_few_are_kept() {
        let states = Folder::open(std::env::temp_dir().join(format!("blox-samples-states-{}", std::process::id())));
        let mut state = State::new(&states.path().join("7.json"), json!({}));
        let mut counts = Vec::new();
        for (number, (lanes, verdict)) in (1..).zip([(1, "valid"), (1, "valid"), (3, "valid"), (3, "invalid")]) {
            let folder = folder(&number.to_string());
            let mut run = json!({"number": number, "lanes": lanes, "verdict": verdict});
            keep(&state, &folder, number, &mut run).expect("writable");
            counts.push((run["chart"].as_str().map(str::to_owned), files(folder.path()).len()));
            state.add_run(run);
            std::fs::remove_dir_all(folder.path()).expect("removable");
        }
        let charts = files(states.path());
        std::fs::remove_dir_all(states.path()).expect("removable");
        let chart = |name: &str| Some(name.to_owned());
        assert_eq!(
            counts,
            [
                (chart("7-run-001.svg"), 6),
                (None, 6),
                (chart("7-run-003.svg"), 3),
                (None, 6)
            ]
        );
        assert_eq!(charts, ["7-run-001.svg", "7-run-003.svg"]);
    }
}
