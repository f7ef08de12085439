//! Tells the story of one seed: `make simulate SEED=n`.

use std::process::ExitCode;

use blox_simulation::story::run;

fn main() -> ExitCode {
    let Some(seed) = std::env::args().nth(1).and_then(|seed| seed.parse().ok()) else {
        eprintln!("usage: simulate SEED, where SEED is a number");
        return ExitCode::from(64);
    };
    let report = run(seed);
    for line in &report.trace {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} steps, {} operations, together {:?} after all was mended",
        report.steps, report.operations, report.together_after
    );
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    if report.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
