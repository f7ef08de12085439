//! `REPORT.md` of one or more campaigns, from their states alone: for whoever decides whether to trust Blox. Pure.

mod campaigns;
mod daemon;
mod faults;
mod pauses;
mod text;
mod zoo;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::fault_records::FaultRecord;
use super::goals::{Counted, issue};
use super::state::{Run, State};
use crate::nemesis::Nemesis;
use text::{grouped, table};

/// What a report is made of.
pub struct Page<'a> {
    /// Of the campaigns.
    pub states: &'a [State],
    /// What the tests made of deliberate bugs.
    pub zoo: Option<&'a Value>,
    /// What was found and mended on the way: Markdown that begins with a title.
    pub found: Option<&'a str>,
    /// Where the report will stand: charts are named from there.
    pub folder: &'a Path,
}

/// All runs together.
struct All<'a> {
    states: &'a [State],
    runs: Vec<Run<'a>>,
    /// With the runs in which they were.
    faults: Vec<(Run<'a>, FaultRecord)>,
}

/// The whole report.
pub fn report(page: &Page<'_>) -> String {
    let runs: Vec<Run<'_>> = page.states.iter().flat_map(State::runs).collect();
    let faults = runs
        .iter()
        .flat_map(|run| run.faults().into_iter().map(|fault| (*run, fault)))
        .collect();
    let all = All {
        states: page.states,
        runs,
        faults,
    };
    let mut out = String::new();
    head(&mut out, &all);
    asked(&mut out, &all);
    campaigns::what_ran(&mut out, &all);
    campaigns::not_valid(&mut out, &all);
    operations(&mut out, &all);
    faults::by_kind(&mut out, &all);
    pauses::pauses(&mut out, &all);
    faults::power_cuts(&mut out, &all);
    faults::corruptions(&mut out, &all);
    daemon::daemon(&mut out, &all);
    campaigns::charts(&mut out, page);
    zoo::zoo(&mut out, page.zoo);
    brute_force(&mut out, &all);
    campaigns::skipped(&mut out, &all);
    found(&mut out, page.found);
    campaigns::time(&mut out, &all);
    again(&mut out, &all);
    campaigns::every_run(&mut out, &all);
    out
}

impl All<'_> {
    fn count(&self, verdict: &str) -> usize {
        self.runs.iter().filter(|run| run.0["verdict"] == verdict).count()
    }

    fn sum(&self, figure: &str) -> u64 {
        self.runs.iter().map(|run| run.figure(figure)).sum()
    }

    fn done(&self, counted: Counted) -> u64 {
        self.states.iter().map(|state| counted.done(state)).sum()
    }

    fn seen(&self) -> impl Iterator<Item = &FaultRecord> {
        self.faults.iter().map(|(_, fault)| fault).filter(|fault| fault.seen)
    }

    /// Pairs of histories on which the checker and brute force differ.
    fn differ(&self) -> u64 {
        self.agreement("differ")
    }

    fn agreement(&self, figure: &str) -> u64 {
        let parts = self
            .states
            .iter()
            .flat_map(|state| state.value()["agreement"].as_array().into_iter().flatten());
        parts.filter_map(|part| part[figure].as_u64()).sum()
    }

    /// Kinds of faults that the campaigns were to commit, and whether each was seen in a run that kept every promise.
    fn kinds(&self) -> BTreeMap<&str, bool> {
        let asked = self
            .states
            .iter()
            .flat_map(|state| state.value()["nemeses"].as_array().into_iter().flatten());
        let mut kinds: BTreeMap<&str, bool> = asked.filter_map(|one| Some((one.as_str()?, false))).collect();
        for (run, fault) in &self.faults {
            if run.is_valid()
                && fault.seen
                && let Some(seen) = kinds.get_mut(fault.fault.as_str())
            {
                *seen = true;
            }
        }
        kinds
    }
}

fn head(out: &mut String, all: &All<'_>) {
    let (invalid, unknown) = (all.count("invalid"), all.count("unknown"));
    let verdict = match (invalid, unknown, all.differ()) {
        _ if all.runs.is_empty() => "Nothing was run.".to_owned(),
        (0, 0, 0) => "No promise was broken, and every run was decided.".to_owned(),
        (0, unknown, 0) => format!("No promise was broken; {unknown} runs could not be decided."),
        (invalid, unknown, differ) => {
            format!(
                "Promises were broken in {invalid} runs, {unknown} could not be decided; checker and brute force differ on {differ}."
            )
        }
    };
    let seeds: Vec<String> = all.states.iter().map(|state| state.seed().to_string()).collect();
    let _ = write!(
        out,
        "# Failure report\n\n**{verdict}** {} runs of {} campaigns (seeds {}), {} operations, {} faults that were seen to have their effect.\n\n\
         A run starts the shipped `docker-compose.yml`, three nodes and a simulated ECS, puts all workloads on it side by side, breaks it, heals it, reads \
         everything back from every node and judges what clients saw from files alone: [README.md](README.md). A fault without a seen effect fails its \
         run; so does a checker that could not decide.\n",
        all.runs.len(),
        all.states.len(),
        seeds.join(", "),
        grouped(all.sum("operations")),
        grouped(all.seen().count() as u64)
    );
}

/// What a release is asked to show, and what was.
fn asked(out: &mut String, all: &All<'_>) {
    let mut rows = vec![
        [
            "campaigns, each with another seed".to_owned(),
            "2".to_owned(),
            all.states.len().to_string(),
        ],
        [
            "runs with a broken promise, runs that were not decided".to_owned(),
            "0, 0".to_owned(),
            format!("{}, {}", all.count("invalid"), all.count("unknown")),
        ],
    ];
    let kinds = all.kinds();
    let missing: Vec<&str> = kinds
        .iter()
        .filter(|(_, seen)| !**seen)
        .map(|(kind, _)| *kind)
        .collect();
    rows.push([
        "kinds of faults at least once".to_owned(),
        kinds.len().to_string(),
        match missing.is_empty() {
            true => kinds.len().to_string(),
            false => format!("{}; not: {}", kinds.len() - missing.len(), missing.join(", ")),
        },
    ]);
    for goal in issue() {
        rows.push([told(goal.counted), grouped(goal.count), grouped(all.done(goal.counted))]);
    }
    rows.push([
        "histories on which checker and brute force differ".to_owned(),
        "0".to_owned(),
        all.differ().to_string(),
    ]);
    out.push_str("\n## Asked, and done\n\nFaults count where their effect was seen and the run kept every promise. Kinds of faults with a target count only one by one, each begun on a whole cluster, so that what they cost clients is their own.\n\n");
    table(out, &["", "asked", "done"], &rows);
}

fn told(counted: Counted) -> String {
    match counted {
        Counted::Histories => "small random histories judged by the checker and by brute force".to_owned(),
        Counted::Operations => "operations".to_owned(),
        Counted::Corruptions => "files of one node damaged: bits flipped, an end missing, blocks zero".to_owned(),
        Counted::DaemonLeaderFaults => "leader killed, paused or cut off during a roll-out".to_owned(),
        Counted::InsideStartTask => "of those inside a StartTask".to_owned(),
        Counted::Fault(wanted) => {
            let on = wanted.target.map_or("", |target| target.word());
            match (wanted.nemesis, on) {
                (Nemesis::PowerCut, "all") => "power cuts of all three nodes under load".to_owned(),
                (nemesis, on) => format!("{}: {on}, {}", nemesis.word(), nemesis.title()),
            }
        }
    }
}

fn operations(out: &mut String, all: &All<'_>) {
    let mut sums: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for run in &all.runs {
        for (name, counts) in run.0["figures"]["by_function"].as_object().into_iter().flatten() {
            let sum = sums.entry(name).or_default();
            for (place, word) in ["ok", "failed", "unknown"].into_iter().enumerate() {
                sum[place] += counts[word].as_u64().unwrap_or(0);
            }
        }
    }
    let rows = sums
        .iter()
        .map(|(name, [ok, failed, unknown])| [(*name).to_owned(), grouped(*ok), grouped(*failed), grouped(*unknown)]);
    let rows: Vec<[String; 4]> = rows.collect();
    out.push_str("\n## Operations\n\nOne attempt at one node each; a failed one surely had no effect, of an unknown one nobody was told.\n\n");
    table(out, &["workload, operation", "ok", "failed", "unknown"], &rows);
    let refused = all
        .runs
        .iter()
        .filter(|run| run.0["figures"]["stale_as_linearizable"] == "invalid")
        .count();
    let _ = write!(
        out,
        "\nBesides: {} lines told by watches, {} events of ECS, {} lists compared between nodes. Stale reads taken for linearizable ones were refused by \
         the checker in {refused} runs: it notices staleness where there is some.\n",
        grouped(all.sum("watch_lines")),
        grouped(all.sum("events")),
        grouped(all.sum("lists_compared"))
    );
}

fn brute_force(out: &mut String, all: &All<'_>) {
    let histories = all.agreement("histories");
    out.push_str("\n## The checker against brute force\n\n");
    if histories == 0 {
        out.push_str("Not in these campaigns; `jepsen-tests agree` does it.\n");
        return;
    }
    let parts = all
        .states
        .iter()
        .flat_map(|state| state.value()["agreement"].as_array().into_iter().flatten())
        .map(|part| {
            format!(
                "`jepsen-tests agree --histories {} --seed {}`",
                part["histories"], part["seed"]
            )
        });
    let _ = writeln!(
        out,
        "{} random histories of 2 to 8 operations were judged by the checker of linearizability and by trying every order: {} are linearizable, {} are not ({} of \
         them by their revisions alone), {} have unknown outcomes. The two differ on **{}**. Again: {}.",
        grouped(histories),
        grouped(all.agreement("good")),
        grouped(histories - all.agreement("good")),
        grouped(all.agreement("by_revisions")),
        grouped(all.agreement("unknowns")),
        all.differ(),
        parts.collect::<Vec<_>>().join(", ")
    );
}

/// The hand-kept page, under a title of this one.
fn found(out: &mut String, found: Option<&str>) {
    let Some(found) = found else { return };
    let (title, rest) = found.split_once('\n').unwrap_or((found, ""));
    let _ = write!(
        out,
        "\n## {}\n\n{}\n",
        title.trim_start_matches('#').trim(),
        rest.trim()
    );
}

fn again(out: &mut String, all: &All<'_>) {
    out.push_str("\n## Again\n\n```\n");
    for state in all.states {
        let value = state.value();
        let _ = writeln!(
            out,
            "make jepsen JEPSEN_FLAGS='--seed {} --time {}s --rate {} --goals issue'",
            value["seed"], value["time_s"], value["rate"]
        );
    }
    out.push_str(
        "\n# One run, by its own command from the table below; a run's folder is judged again from its files alone\n\
         cargo run --release --bin jepsen-tests -- run ...\n\
         cargo run --release --bin jepsen-tests -- check target/jepsen/run\n\
         \n# The same by checkers of others: Knossos (jepsen-io/knossos) the registers, key by key, elle-cli (ligurio/elle-cli) the lists\n\
         cargo run --release --bin jepsen-tests -- edn target/jepsen/run --to target/jepsen/edn\n\
         (cd knossos && lein run --model cas-register ../target/jepsen/edn/register-*.edn)\n\
         java -jar elle-cli-standalone.jar --model list-append target/jepsen/edn/append.edn\n\
         \n# This page, from the campaigns' states\n\
         cargo run --release --bin jepsen-tests -- report jepsen-tests/campaigns/*.json --report jepsen-tests/REPORT.md\n```\n\n\
         A seed repeats what is asked of a cluster, not what it answers.\n",
    );
}

#[cfg(test)]
mod tests;
