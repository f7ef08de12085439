//! What a test measured, for docs/soak.md: one JSON line a row.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::scale::soaks;

/// The kernel's unit of process times, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where `make soak` collects results, samples and charts: `target/soak`, or what BLOX_SOAK_DIRECTORY says.
pub fn soak_directory() -> PathBuf {
    let directory = match std::env::var_os("BLOX_SOAK_DIRECTORY") {
        Some(given) => PathBuf::from(given),
        None => Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("the directory for tests stands in the target directory")
            .join("soak"),
    };
    fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("cannot create {}: {error}", directory.display()));
    directory
}

/// Notes what a row has shown, as `report("row 12 feed", &[("events", "100000")])`: in `make soak` only, once it has passed.
pub fn report(row: &str, figures: &[(&str, &str)]) {
    if !soaks() {
        return;
    }
    let line = json!({
        "row": row,
        "test": test_name(),
        "verdict": "passed",
        "date": today(),
        "commit": std::env::var("BLOX_SOAK_COMMIT").unwrap_or_default(),
        "seconds": process_age().map(|age| age.as_secs()),
        "figures": figures,
    });
    let path = soak_directory().join("results.jsonl");
    let appended = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    appended.unwrap_or_else(|error| panic!("cannot append to {}: {error}", path.display()));
}

/// The test that runs: the runner starts a process for each and names it.
fn test_name() -> String {
    let named = std::env::var("NEXTEST_TEST_NAME").ok();
    let argument = || std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    named.or_else(argument).unwrap_or_default()
}

/// As in 2026-01-31, universal time.
fn today() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// How long this process runs: a process runs one test.
fn process_age() -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime_seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may hold anything; from its end on, the start is the twentieth word.
    let (_, words) = stat.rsplit_once(')')?;
    let started_ticks: f64 = words.split_whitespace().nth(19)?.parse().ok()?;
    Duration::try_from_secs_f64(uptime_seconds - started_ticks / TICKS_PER_SECOND).ok()
}
