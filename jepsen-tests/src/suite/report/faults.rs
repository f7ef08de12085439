//! What was done to the clusters, and what was seen of it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::All;
use super::text::{grouped, table};
use crate::nemesis::Nemesis;
use crate::suite::fault_records::{Came, FaultRecord};
use crate::suite::state::Run;

/// Functions whose acknowledgement means that something is written.
const WRITES: [&str; 6] = ["write", "cas", "delete", "add", "append", "once"];

/// Every kind and target, with one sentence of what was measured.
pub(super) fn by_kind(out: &mut String, all: &All<'_>) {
    let mut kinds: BTreeMap<(&str, &str), (usize, usize, &str)> = BTreeMap::new();
    for (_, fault) in &all.faults {
        let (times, seen, evidence) = kinds.entry((&fault.fault, &fault.target)).or_insert((0, 0, ""));
        *times += 1;
        if fault.seen {
            *seen += 1;
            *evidence = &fault.evidence;
        }
    }
    let rows = kinds.iter().map(|((fault, target), (times, seen, evidence))| {
        [
            (*fault).to_owned(),
            (*target).to_owned(),
            times.to_string(),
            seen.to_string(),
            (*evidence).to_owned(),
        ]
    });
    let rows: Vec<[String; 5]> = rows.collect();
    out.push_str("\n## Faults\n\nWhat each is stands in [README.md](README.md#faults-that-prove-themselves).\n\n");
    table(
        out,
        &["fault", "on", "times", "effect seen", "as seen, the last time"],
        &rows,
    );
}

/// Nothing acknowledged may be lost when all machines lose power.
pub(super) fn power_cuts(out: &mut String, all: &All<'_>) {
    let cuts: Vec<&(Run<'_>, FaultRecord)> = all
        .faults
        .iter()
        .filter(|(_, fault)| fault.seen && fault.fault == Nemesis::PowerCut.word())
        .collect();
    let mut by_target: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, fault) in &cuts {
        *by_target.entry(&fault.target).or_default() += 1;
    }
    let has_cut = |run: &&Run<'_>| {
        run.faults()
            .iter()
            .any(|fault| fault.seen && fault.fault == Nemesis::PowerCut.word())
    };
    let runs: Vec<&Run<'_>> = all.runs.iter().filter(has_cut).collect();
    let acknowledged: u64 = runs.iter().map(|run| acknowledged(**run)).sum();
    let broken = runs.iter().filter(|run| !run.is_valid()).count();
    let by_target: Vec<String> = by_target
        .iter()
        .map(|(target, count)| format!("{target}: {count}"))
        .collect();
    out.push_str("\n## Power cuts\n\n");
    let _ = writeln!(
        out,
        "{} ({}), in {} runs with {} acknowledged writes. The disk forgets at that moment whatever was not synced. Afterwards every key is read from every \
         node: {}.",
        cuts.len(),
        if by_target.is_empty() {
            "none".to_owned()
        } else {
            by_target.join(", ")
        },
        runs.len(),
        grouped(acknowledged),
        match broken {
            0 => "nothing acknowledged was lost".to_owned(),
            broken => format!("{broken} of these runs are not valid, see above"),
        }
    );
}

fn acknowledged(run: Run<'_>) -> u64 {
    let all = run.0["figures"]["by_function"].as_object().into_iter().flatten();
    let writes = all.filter(|(name, _)| name.split(' ').nth(1).is_some_and(|word| WRITES.contains(&word)));
    writes.filter_map(|(_, counts)| counts["ok"].as_u64()).sum()
}

/// What became of nodes whose files were damaged, by the kind of file.
pub(super) fn corruptions(out: &mut String, all: &All<'_>) {
    let mut by_file: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut sums = [0; 3];
    for fault in all.seen() {
        let (Some(came), Some(file)) = (fault.came, fault.file.as_deref()) else {
            continue;
        };
        let place = match came {
            Came::Refused => 0,
            Came::Rebuilt => 1,
            Came::WentOn => 2,
        };
        by_file.entry(file).or_default()[place] += 1;
        sums[place] += 1;
    }
    let row = |name: &str, counts: &[usize; 3]| {
        let [refused, rebuilt, went_on] = counts.map(|count| count.to_string());
        [name.to_owned(), refused, rebuilt, went_on]
    };
    let mut rows: Vec<[String; 4]> = by_file.iter().map(|(file, counts)| row(file, counts)).collect();
    rows.push(row("all", &sums));
    out.push_str(
        "\n## Damaged files\n\nOne node at a time, killed, a file of it damaged, started again. It refuses to start, and is replaced as the manual says; or \
         it rebuilds its state by itself; or it goes on, where what was damaged is not needed (a log of the state that Raft's log replays, an old note) or is \
         recognised and cut off (an end that was never acknowledged). What it serves afterwards is held against everything that clients were told, and its \
         hash against the other nodes'.\n\n",
    );
    table(out, &["file", "refused, then replaced", "rebuilt", "went on"], &rows);
}
