//! What ran, on what, and where its time went.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::text::{grouped, table, words};
use super::{All, Page};
use crate::suite::state::{Run, State};

/// Letters of a commit, and of an image's id, that are told.
const ID_LETTERS: usize = 12;

/// A campaign a row, then its machines.
pub(super) fn what_ran(out: &mut String, all: &All<'_>) {
    let row = |state: &State| {
        let runs = state.runs();
        let count = |verdict: &str| runs.iter().filter(|run| run.0["verdict"] == verdict).count();
        let seconds = |name: &str| runs.iter().filter_map(|run| run.0[name].as_f64()).sum::<f64>();
        let faults = runs
            .iter()
            .flat_map(|run| run.faults())
            .filter(|fault| fault.seen)
            .count();
        let began = runs.first().and_then(|run| run.0["began"].as_str()).unwrap_or_default();
        [
            state.seed().to_string(),
            began.split('T').next().unwrap_or_default().to_owned(),
            runs.len().to_string(),
            format!("{:.0} ({:.0})", seconds("took_s") / 60.0, seconds("load_s") / 60.0),
            grouped(runs.iter().map(|run| run.operations()).sum()),
            grouped(faults as u64),
            format!("{}, {}, {}", count("valid"), count("invalid"), count("unknown")),
            images(state),
        ]
    };
    let rows: Vec<[String; 8]> = all.states.iter().map(row).collect();
    out.push_str("\n## What ran\n\n");
    table(
        out,
        &[
            "seed",
            "begun",
            "runs",
            "minutes (of load)",
            "operations",
            "faults",
            "valid, invalid, unknown",
            "image made of commit",
        ],
        &rows,
    );
    let mut machines: BTreeSet<String> = BTreeSet::new();
    for state in all.states {
        machines.extend(items(state, "machines").map(machine));
    }
    for machine in machines {
        let _ = write!(out, "\nMachine: {machine}.\n");
    }
    let mut settings: BTreeMap<String, usize> = BTreeMap::new();
    for run in &all.runs {
        let all = run.0["settings"].as_object().into_iter().flatten();
        let entries = all.filter(|(name, _)| *name == "BLOX_SNAPSHOT_ENTRIES");
        let told = entries
            .map(|(_, value)| format!("{} entries", value.as_str().unwrap_or_default()))
            .next();
        *settings
            .entry(told.unwrap_or_else(|| "the defaults".to_owned()))
            .or_default() += 1;
    }
    let settings: Vec<String> = settings
        .iter()
        .map(|(told, count)| format!("{told} in {count} runs"))
        .collect();
    let of = |name: &str| {
        let values: BTreeSet<String> = all.states.iter().map(|state| state.value()[name].to_string()).collect();
        values.into_iter().collect::<Vec<_>>().join(", ")
    };
    let workloads: BTreeSet<String> = all
        .states
        .iter()
        .map(|state| words(&state.value()["workloads"]))
        .collect();
    let _ = write!(
        out,
        "\n{} s of load a run, three times as long where goals are served, {} requests a second over all workloads: {}. A snapshot is taken after \
         {}.\n",
        of("time_s"),
        of("rate"),
        workloads.into_iter().collect::<Vec<_>>().join("; "),
        settings.join(", ")
    );
}

fn items<'a>(state: &'a State, list: &str) -> impl Iterator<Item = &'a Value> {
    state.value()[list].as_array().into_iter().flatten()
}

fn machine(machine: &Value) -> String {
    let word = |name: &str| machine[name].as_str().unwrap_or("?").to_owned();
    format!(
        "{} cores, {} MiB of memory, kernel {}, {}, Docker {}",
        machine["cores"],
        machine["memory_mib"],
        word("kernel"),
        word("system"),
        word("docker")
    )
}

fn images(state: &State) -> String {
    let told = |image: &Value| {
        let id = image["id"].as_str().unwrap_or_default().trim_start_matches("sha256:");
        let revision = image["revision"].as_str().unwrap_or("unknown");
        format!("{revision} ({})", &id[..id.len().min(ID_LETTERS)])
    };
    items(state, "images").map(told).collect::<Vec<_>>().join(", ")
}

/// Runs that broke a promise, or could not be decided.
pub(super) fn not_valid(out: &mut String, all: &All<'_>) {
    if all.runs.iter().all(|run| run.is_valid()) {
        return;
    }
    out.push_str("\n## Not valid\n\n");
    for (state, run) in each(all).filter(|(_, run)| !run.is_valid()) {
        let _ = writeln!(
            out,
            "- campaign {}, run {}, {}: `{}`",
            state.seed(),
            run.0["number"],
            run.0["verdict"].as_str().unwrap_or_default(),
            run.0["command"].as_str().unwrap_or_default()
        );
        for sentence in run.0["sentences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let _ = writeln!(out, "  - {}", sentence.replace('\n', " "));
        }
    }
}

fn each<'a>(all: &'a All<'_>) -> impl Iterator<Item = (&'a State, Run<'a>)> {
    all.states
        .iter()
        .flat_map(|state| state.runs().into_iter().map(move |run| (state, run)))
}

/// The charts that stand beside the states.
pub(super) fn charts(out: &mut String, page: &Page<'_>) {
    let runs = page
        .states
        .iter()
        .flat_map(|state| state.runs().into_iter().map(move |run| (state, run)));
    let mut charts = runs
        .filter_map(|(state, run)| Some((state, run, run.0["chart"].as_str()?)))
        .peekable();
    if charts.peek().is_none() {
        return;
    }
    out.push_str("\n## Latency, with the faults\n\nOne run of each sort: kinds in turn, mixes of three at once, and those that serve goals. `timeline.svg` and `latency.svg` stand in every run's folder.\n");
    for (state, run, chart) in charts {
        let path = seen_from(page.folder, &state.path().with_file_name(chart));
        let sort = match (run.serves(), run.lanes()) {
            (Some(goals), _) => format!("for the goals: {goals}"),
            (None, 1) => "kinds in turn".to_owned(),
            (None, lanes) => format!("{lanes} faults at once"),
        };
        let _ = write!(
            out,
            "\nCampaign {}, run {}, {sort}:\n\n![Latency of run {1}, {sort}]({})\n",
            state.seed(),
            run.0["number"],
            path.display()
        );
    }
}

/// A file as a page in a folder names it.
fn seen_from(folder: &Path, file: &Path) -> PathBuf {
    let parts = |path: &Path| -> Vec<String> {
        let named = path.components().filter(|part| !matches!(part, Component::CurDir));
        named
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect()
    };
    let (folder, file) = (parts(folder), parts(file));
    let common = folder.iter().zip(&file).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n("..", folder.len() - common);
    up.chain(file[common..].iter().map(String::as_str)).collect()
}

/// What this machine cannot do, and for what there was no time.
pub(super) fn skipped(out: &mut String, all: &All<'_>) {
    let mut reasons: BTreeSet<String> = BTreeSet::new();
    for run in &all.runs {
        for one in run.0["skipped"].as_array().into_iter().flatten() {
            let word = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            reasons.insert(format!("{}: {}", word("nemesis"), word("why")));
        }
    }
    let never = all.kinds().into_iter().filter(|(_, seen)| !seen);
    let never: Vec<&str> = never.map(|(kind, _)| kind).collect();
    if !never.is_empty() {
        reasons.insert(format!("never seen in a run that was well: {}", never.join(", ")));
    }
    out.push_str("\n## Skipped\n\n");
    match reasons.is_empty() {
        true => out.push_str("Nothing: every kind of fault could be committed.\n"),
        false => {
            for reason in reasons {
                let _ = writeln!(out, "- {reason}");
            }
        }
    }
}

/// Where a run's time goes besides the load.
pub(super) fn time(out: &mut String, all: &All<'_>) {
    const PHASES: [&str; 11] = [
        "set-up",
        "load",
        "heal",
        "wait",
        "last-reads",
        "changes",
        "logs",
        "removal",
        "charts",
        "verdict",
        "all",
    ];
    let mut sums: BTreeMap<&str, (usize, [f64; PHASES.len()])> = BTreeMap::new();
    for run in &all.runs {
        let spent = &run.0["figures"]["seconds"];
        if !spent.is_object() {
            continue;
        }
        let (count, sum) = sums.entry(run.serves().unwrap_or("first part")).or_default();
        *count += 1;
        for (place, phase) in PHASES.iter().enumerate() {
            sum[place] += match *phase {
                "all" => run.took_s(),
                phase => spent[phase].as_f64().unwrap_or(0.0),
            };
        }
    }
    if sums.is_empty() {
        return;
    }
    out.push_str("\n## Where the time of a run goes\n\nSeconds, the mean of its sort.\n\n");
    let head: [&str; PHASES.len() + 1] = std::array::from_fn(|place| if place == 0 { "" } else { PHASES[place - 1] });
    let row = |(sort, (count, sum)): (&&str, &(usize, [f64; PHASES.len()]))| -> [String; PHASES.len() + 1] {
        std::array::from_fn(|place| match place {
            0 => format!("{sort}, {count} runs"),
            place => format!("{:.1}", sum[place - 1] / *count as f64),
        })
    };
    let rows: Vec<[String; PHASES.len() + 1]> = sums.iter().map(row).collect();
    table(out, &head, &rows);
}

/// Every run with its command, folded away.
pub(super) fn every_run(out: &mut String, all: &All<'_>) {
    for state in all.states {
        let rows = state.runs().into_iter().map(|run| {
            [
                run.0["number"].to_string(),
                run.0["verdict"].as_str().unwrap_or_default().to_owned(),
                run.operations().to_string(),
                run.faults().iter().filter(|fault| fault.seen).count().to_string(),
                format!("{:.0}", run.took_s()),
                format!("`{}`", run.0["command"].as_str().unwrap_or_default()),
            ]
        });
        let rows: Vec<[String; 6]> = rows.collect();
        let _ = write!(
            out,
            "\n<details><summary>Runs of campaign {}</summary>\n\n",
            state.seed()
        );
        table(
            out,
            &["run", "verdict", "operations", "faults", "seconds", "command"],
            &rows,
        );
        out.push_str("\n</details>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the folder of the page, down or up.
    #[test]
    fn charts_are_named_from_the_page() {
        let seen = |folder: &str, file: &str| seen_from(Path::new(folder), Path::new(file)).display().to_string();
        assert_eq!(
            seen("jepsen-tests", "jepsen-tests/campaigns/7-run-001.svg"),
            "campaigns/7-run-001.svg"
        );
        assert_eq!(
            seen("docs", "jepsen-tests/campaigns/7.svg"),
            "../jepsen-tests/campaigns/7.svg"
        );
        assert_eq!(seen("", "./a/b.svg"), "a/b.svg");
    }
}
