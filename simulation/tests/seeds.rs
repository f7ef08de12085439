//! Many seeds, all rules; and that a seed is a story.

use std::time::Duration;

use blox_simulation::story::{run, run_noting};

/// Seeds run by `make test`, split so that two processors share them.
const SEEDS: u64 = 100;
const PARTS: u64 = 4;
/// The last lines of a failing story that are shown.
const LINES_SHOWN: usize = 60;

fn part(number: u64) {
    let (mut steps, mut operations, mut slowest) = (0, 0, Duration::ZERO);
    for seed in (number..SEEDS).step_by(usize::try_from(PARTS).expect("small")) {
        let report = run(seed);
        if !report.violations.is_empty() {
            let from = report.trace.len().saturating_sub(LINES_SHOWN);
            panic!(
                "seed {seed}: {:#?}\n{}\nRepeat it with: make simulate SEED={seed}",
                report.violations,
                report.trace[from..].join("\n")
            );
        }
        steps += report.steps;
        operations += report.operations;
        slowest = slowest.max(report.together_after.unwrap_or_default());
    }
    println!(
        "{} seeds, {steps} steps, {operations} operations with a known outcome, together after {slowest:?} at the latest",
        SEEDS / PARTS
    );
    assert!(operations > 0, "callers get nothing done");
}

/// Under loss, delay, reordering, partitions, crashes, power cuts and held nodes, on a fleet that changes and an ECS whose calls and events get
/// lost, late and mixed up, every rule holds after every step, and in the end all is as it is wanted (first of four parts).
#[test]
fn every_rule_holds_in_every_story_1() {
    part(0);
}

/// As the first part.
#[test]
fn every_rule_holds_in_every_story_2() {
    part(1);
}

/// As the first part.
#[test]
fn every_rule_holds_in_every_story_3() {
    part(2);
}

/// As the first part.
#[test]
fn every_rule_holds_in_every_story_4() {
    part(3);
}

/// The same seed twice gives the same story, byte for byte, and the same steps of the executor; another seed gives another one.
#[test]
fn a_seed_is_a_story() {
    let one = run_noting(7, true);
    let other = run_noting(7, true);
    assert!(
        one.trace == other.trace,
        "the stories differ: {}",
        difference(&one.trace, &other.trace)
    );
    assert!(
        one.steps_trace == other.steps_trace,
        "the steps differ: {}",
        difference(&one.steps_trace, &other.steps_trace)
    );
    println!(
        "{} lines, {} steps of the executor, equal",
        one.trace.len(),
        one.steps_trace.len()
    );
    assert!(run(8).trace != one.trace);
}

fn difference(one: &[String], other: &[String]) -> String {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    at.map_or_else(
        || format!("{} and {} lines", one.len(), other.len()),
        |at| {
            let from = at.saturating_sub(5);
            let shown = |lines: &[String]| lines[from..lines.len().min(at + 2)].join("\n");
            format!("line {at}\n--- one\n{}\n--- other\n{}", shown(one), shown(other))
        },
    )
}
