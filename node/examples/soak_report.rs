//! Writes docs/soak.md from what the tests of `make soak` left in target/soak: the last result of each row, the charts, and what failed.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A result counts as one of its row by this word and the number behind it; others come last.
const ROW: &str = "row ";

/// Which row of the promise a test belongs to, by the beginning of its name.
const ROWS: [(&str, u32); 23] = [
    ("acknowledged::", 1),
    ("kill_all::", 2),
    ("crash_points::", 3),
    ("snapshots::", 4),
    ("log_limits::", 5),
    ("operated::two_lost", 6),
    ("operated::the_command", 7),
    ("replaced::", 7),
    ("damage::", 8),
    ("disk_full::", 9),
    ("failing_sync::", 10),
    ("late_leader::", 11),
    ("late_call::", 11),
    ("counting::", 12),
    ("deletes::", 12),
    ("long_run::", 12),
    ("no_quorum::", 12),
    ("watch::", 13),
    ("reads::", 14),
    ("idempotency::", 15),
    ("crashes::", 16),
    ("restore::", 16),
    ("levels::", 17),
];
/// So many of the last lines that a test printed are its figures.
const LINES_SHOWN: usize = 2;
/// Longest line shown, characters.
const LINE_CHARACTERS_MAX: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(soak), Some(docs)) = (arguments.next(), arguments.next()) else {
        return Err("usage: soak_report TARGET/soak DOCS [JUNIT.xml]".into());
    };
    let file = soak.join("results.jsonl");
    let mut results = fs::read_to_string(&file).unwrap_or_default();
    let mut failed = Vec::new();
    if let Some(junit) = arguments.next().and_then(|junit| fs::read_to_string(junit).ok()) {
        failed = failures(&junit);
        let new: Vec<Value> = passed(&junit).filter(|passed| !is_known(&results, passed)).collect();
        results.extend(new.iter().map(|passed| format!("{passed}\n")));
        fs::write(&file, &results)?;
    }
    let charts = copy_charts(&soak, &docs)?;
    fs::write(docs.join("soak.md"), page(&latest(&results)?, &failed, &charts))?;
    println!("{} written", docs.join("soak.md").display());
    Ok(())
}

/// The last result of each row and test, by the row's number.
fn latest(results: &str) -> Result<BTreeMap<(u32, String), Value>, serde_json::Error> {
    let mut rows = BTreeMap::new();
    for line in results.lines() {
        let result: Value = serde_json::from_str(line)?;
        let name = result["row"].as_str().unwrap_or_default().to_owned();
        rows.insert((number_of(&name), name), result);
    }
    Ok(rows)
}

fn number_of(row: &str) -> u32 {
    let digits = row.strip_prefix(ROW).and_then(|rest| rest.split(' ').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX)
}

/// Whether a test has noted its figures itself, or this run of it was taken in before.
fn is_known(results: &str, passed: &Value) -> bool {
    let known = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_default();
    results.lines().map(known).any(|known| {
        let same = |key: &str| known[key] == passed[key];
        same("test") && (known["row"] != passed["row"] || (same("figures") && same("commit")))
    })
}

/// A result for each test that passed, of the last lines that it printed.
fn passed(junit: &str) -> impl Iterator<Item = Value> + '_ {
    let cases = junit.split("<testcase ").skip(1);
    cases.filter_map(|case| {
        let case = case.split("</testcase>").next()?;
        if case.contains("<failure") || case.contains("<error") {
            return None;
        }
        let name = attribute(case, "name")?;
        let (_, row) = ROWS.iter().find(|(beginning, _)| name.starts_with(beginning))?;
        let printed = case.split("<system-out>").nth(1).unwrap_or_default();
        let printed = printed.split("</system-out>").next().map(unescaped).unwrap_or_default();
        let (_, sentence) = name.rsplit_once("::")?;
        Some(json!({
            "row": format!("{ROW}{row} {}", sentence.replace('_', " ")),
            "test": name,
            "verdict": "passed",
            "date": attribute(case, "timestamp").and_then(|time| time.get(..10)),
            "commit": std::env::var("BLOX_SOAK_COMMIT").unwrap_or_default(),
            "seconds": attribute(case, "time").and_then(|time| time.parse::<f64>().ok()).map(f64::round),
            "figures": last_lines(&printed),
        }))
    })
}

fn attribute<'a>(case: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = case.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// What the test said, without what the runner said of it.
fn last_lines(printed: &str) -> Vec<[String; 2]> {
    let runners = ["running ", "test ", "seed ", "successes:", "failures:"];
    let own = |line: &&str| !line.trim().is_empty() && !runners.iter().any(|word| line.starts_with(word));
    let lines: Vec<&str> = printed.lines().map(str::trim).filter(own).collect();
    let short = |line: &&str| line.chars().take(LINE_CHARACTERS_MAX).collect::<String>();
    let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    last.iter()
        .map(|line| [short(line).replace('|', "/"), String::new()])
        .collect()
}

fn unescaped(text: &str) -> String {
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ];
    pairs
        .iter()
        .fold(text.to_owned(), |text, (escaped, own)| text.replace(escaped, own))
}

/// Names of the tests that failed, from the runner's own report.
fn failures(junit: &str) -> Vec<String> {
    let cases = junit.split("<testcase ").skip(1);
    let failed = cases.filter(|case| {
        let own = case.split("</testcase>").next().unwrap_or(case);
        own.contains("<failure") || own.contains("<error")
    });
    failed
        .filter_map(|case| attribute(case, "name").map(str::to_owned))
        .collect()
}

/// Charts beside the page, by name.
fn copy_charts(soak: &Path, docs: &Path) -> Result<Vec<String>, std::io::Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(soak)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "svg")
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            fs::copy(&path, docs.join(name))?;
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn page(rows: &BTreeMap<(u32, String), Value>, failed: &[String], charts: &[String]) -> String {
    let mut text = String::from(
        "# What the hard cases have shown\n\n\
         Written by `make soak`: the tests of node/tests at full count, each row the last run of its test. All of it ran on one machine of two\n\
         cores that nodes, simulated ECS and load share, with builds for tests (not optimised, crash points in them): times are not the\n\
         product's, see the benchmarks for those.\n\n",
    );
    text.push_str("| row | shown | figures | took | when, at |\n|---|---|---|---|---|\n");
    for ((number, name), result) in rows {
        let row = if *number == u32::MAX {
            String::new()
        } else {
            number.to_string()
        };
        let shown = name.strip_prefix(&format!("{ROW}{number} ")).unwrap_or(name);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {row} | {shown} | {} | {} | {}, {} |",
            figures(&result["figures"]),
            took(result["seconds"].as_f64()),
            result["date"].as_str().unwrap_or("-"),
            result["commit"]
                .as_str()
                .filter(|commit| !commit.is_empty())
                .unwrap_or("-"),
        );
    }
    if failed.is_empty() {
        text.push_str("\nNo test of the last run failed.\n");
    } else {
        let _ = writeln!(text, "\n**Failed in the last run:** {}", failed.join(", "));
    }
    for chart in charts {
        let _ = writeln!(text, "\n![{0}]({0})", chart);
    }
    text
}

fn figures(figures: &Value) -> String {
    let figures = figures.as_array().into_iter().flatten();
    let figures = figures.map(|figure| {
        let text = |position: usize| figure[position].as_str().unwrap_or_default();
        format!("{} {}", text(0), text(1)).trim().to_owned()
    });
    figures.collect::<Vec<_>>().join("; ")
}

fn took(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.0} s"),
        Some(seconds) => format!("{:.0} min", (seconds / 60.0).ceil()),
    }
}
