//! `REPORT.md` of a campaign, from its state alone: what was run, done and found. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

use crate::check::availability::Spread;
use crate::clock::ms;

/// The whole report. `repeat`: the command that runs such a campaign.
pub fn report(state: &Value, repeat: &str) -> String {
    let runs: Vec<&Value> = state["runs"].as_array().into_iter().flatten().collect();
    let mut out = String::new();
    head(&mut out, state, &runs);
    broken(&mut out, &runs);
    faults(&mut out, &runs);
    operations(&mut out, &runs);
    others(&mut out, &runs);
    skipped(&mut out, &runs);
    every_run(&mut out, &runs);
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "\n## Again\n\n```\n{repeat}\n```\n\nOne run of it by its own command in the table above; a run's folder is judged again by `jepsen-tests check FOLDER`.\n"
    );
    out
}

fn head(out: &mut String, state: &Value, runs: &[&Value]) {
    let count = |word: &str| runs.iter().filter(|run| run["verdict"] == word).count();
    let operations: u64 = runs
        .iter()
        .filter_map(|run| run["figures"]["operations"].as_u64())
        .sum();
    let minutes: f64 = runs.iter().filter_map(|run| run["took_s"].as_f64()).sum::<f64>() / 60.0;
    let faults: usize = runs.iter().map(|run| gaps(run).len()).sum();
    let _ = write!(
        out,
        "# Failure campaign\n\n{} runs in {minutes:.0} minutes, {operations} operations, {faults} faults: **{} valid, {} invalid, {} unknown**. \
         Seed {}, image `{}`, {} s of load a run at {} requests a second, workloads {} side by side.\n",
        runs.len(),
        count("valid"),
        count("invalid"),
        count("unknown"),
        state["seed"],
        state["image"].as_str().unwrap_or_default(),
        state["time_s"],
        state["rate"],
        words(&state["workloads"])
    );
}

fn broken(out: &mut String, runs: &[&Value]) {
    let bad: Vec<&&Value> = runs.iter().filter(|run| run["verdict"] != "valid").collect();
    if bad.is_empty() {
        return;
    }
    out.push_str("\n## Not valid\n\n");
    for run in bad {
        let _ = writeln!(
            out,
            "- run {} (seed {}), {}:",
            run["number"],
            run["seed"],
            run["verdict"].as_str().unwrap_or_default()
        );
        for sentence in run["sentences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let _ = writeln!(out, "  - {sentence}");
        }
    }
}

/// The cost of each fault of a run.
fn gaps<'a>(run: &&'a Value) -> Vec<&'a Value> {
    run["figures"]["gaps"].as_array().into_iter().flatten().collect()
}

fn faults(out: &mut String, runs: &[&Value]) {
    let mut pauses: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for gap in runs.iter().flat_map(gaps) {
        let word = |name: &str| gap[name].as_str().unwrap_or_default();
        let pause_ns = gap["pause_ms"].as_u64().unwrap_or(0) * 1_000_000;
        for name in [
            word("fault").to_owned(),
            format!("{} {}", word("fault"), word("target")),
        ] {
            pauses.entry(name).or_default().push(pause_ns);
        }
    }
    out.push_str("\n## Faults, and for how long no write was acknowledged\n\nEach was seen to have its effect, unless a run above says otherwise. The longest time without an acknowledged write that began during \
        the fault, milliseconds; other faults of a mix may have their part in it.\n\n| fault | times | p50 | p90 | p99 | max |\n|---|---|---|---|---|---|\n");
    for (name, values) in pauses {
        let Spread {
            count,
            p50_ns,
            p90_ns,
            p99_ns,
            max_ns,
        } = Spread::of(&values);
        let indent = if name.contains(' ') { "&nbsp;&nbsp;" } else { "" };
        let _ = writeln!(
            out,
            "| {indent}{name} | {count} | {} | {} | {} | {} |",
            ms(p50_ns),
            ms(p90_ns),
            ms(p99_ns),
            ms(max_ns)
        );
    }
}

fn operations(out: &mut String, runs: &[&Value]) {
    let mut sums: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for (name, counts) in runs
        .iter()
        .flat_map(|run| run["figures"]["by_function"].as_object().into_iter().flatten())
    {
        let sum = sums.entry(name).or_default();
        for (place, word) in ["ok", "failed", "unknown"].into_iter().enumerate() {
            sum[place] += counts[word].as_u64().unwrap_or(0);
        }
    }
    out.push_str("\n## Operations\n\n| workload, operation | ok | failed | unknown |\n|---|---|---|---|\n");
    for (name, [ok, failed, unknown]) in sums {
        let _ = writeln!(out, "| {name} | {ok} | {failed} | {unknown} |");
    }
}

fn others(out: &mut String, runs: &[&Value]) {
    let sum = |name: &str| runs.iter().filter_map(|run| run["figures"][name].as_u64()).sum::<u64>();
    let refused = runs
        .iter()
        .filter(|run| run["figures"]["stale_as_linearizable"] == "invalid")
        .count();
    let _ = write!(
        out,
        "\n{} lines of watches, {} events of ECS, {} lists compared, {} StartTask calls with an effect ({} of them not answered), {} doubles.\n\
         Stale reads taken for linearizable ones were refused by the checker in {refused} runs: it notices staleness where there is some.\n",
        sum("watch_lines"),
        sum("events"),
        sum("lists_compared"),
        sum("starts"),
        sum("starts_unanswered"),
        sum("doubles")
    );
}

fn skipped(out: &mut String, runs: &[&Value]) {
    let mut all: BTreeSet<String> = BTreeSet::new();
    for run in runs {
        for one in run["skipped"].as_array().into_iter().flatten() {
            let word = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            all.insert(format!("- {}: {}", word("nemesis"), word("why")));
        }
    }
    if !all.is_empty() {
        let _ = write!(
            out,
            "\n## Skipped on this machine\n\n{}\n",
            all.into_iter().collect::<Vec<_>>().join("\n")
        );
    }
}

fn every_run(out: &mut String, runs: &[&Value]) {
    out.push_str(
        "\n## Runs\n\n| run | verdict | operations | faults | seconds | command |\n|---|---|---|---|---|---|\n",
    );
    for run in runs {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.0} | `{}` |",
            run["number"],
            run["verdict"].as_str().unwrap_or_default(),
            run["figures"]["operations"],
            gaps(run).len(),
            run["took_s"].as_f64().unwrap_or(0.0),
            run["command"].as_str().unwrap_or_default()
        );
    }
}

fn words(list: &Value) -> String {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Counts of all runs together, what was broken by name, and the percentiles of each fault.
    #[test]
    fn a_report_adds_up() {
        let run = |verdict: &str, pause_ms: u64| {
            json!({"number": 1, "seed": 7, "verdict": verdict, "sentences": ["register: stale"], "took_s": 60.0, "command": "jepsen-tests run",
                "skipped": [{"nemesis": "disk-full", "why": "only root can mount disks"}],
                "figures": {"operations": 100, "by_function": {"register read": {"ok": 90, "failed": 6, "unknown": 4}},
                    "gaps": [{"fault": "kill", "target": "leader", "pause_ms": pause_ms}], "watch_lines": 5, "stale_as_linearizable": "invalid"}})
        };
        let state = json!({"seed": 7, "image": "i", "time_s": 60, "rate": 200, "workloads": ["register"], "runs": [run("valid", 400), run("invalid", 900)]});
        let text = report(&state, "make jepsen");
        for expected in [
            "2 runs in 2 minutes, 200 operations, 2 faults: **1 valid, 1 invalid, 0 unknown**",
            "  - register: stale",
            "| kill | 2 | 400 | 900 | 900 | 900 |",
            "| &nbsp;&nbsp;kill leader | 2 |",
            "| register read | 180 | 12 | 8 |",
            "10 lines of watches",
            "- disk-full: only root can mount disks",
            "make jepsen",
        ] {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
    }
}
