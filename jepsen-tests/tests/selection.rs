//! A selection of `make jepsen` on real containers, a minute and a half each: all workloads side by side, two faults at once, by a seed that is always the
//! same and by one that never is (it is printed; the command that is printed with it repeats the run). `BLOX_JEPSEN_TEST=0` turns both off.

mod containers;

use std::process::ExitCode;

use containers::{IMAGE, PATIENCE, RATE, SLOWER, Test};

const PROGRAM: &str = env!("CARGO_BIN_EXE_jepsen-tests");
const TURNED_OFF_BY: &str = "BLOX_JEPSEN_TEST";
/// Of each sort one: a process, a machine, a link, a disk without power, a file, a call under way. What this machine cannot do is skipped, and named.
const NEMESES: &str = "kill,pause,isolate,power-cut,bit-flip,launch";
const AT_ONCE: &str = "2";
const LOAD: &str = "30s";
/// By it every kind is planned.
const SEED: &str = "3";

fn main() -> ExitCode {
    containers::main(&[
        Test {
            name: "a_selection_of_faults_by_a_fixed_seed_breaks_no_promise",
            turned_off_by: TURNED_OFF_BY,
            program: PROGRAM,
            words: || words("jepsen-fixed", &["--seed", SEED]),
        },
        Test {
            name: "a_selection_of_faults_by_a_random_seed_breaks_no_promise",
            turned_off_by: TURNED_OFF_BY,
            program: PROGRAM,
            words: || words("jepsen-random", &[]),
        },
    ])
}

fn words(name: &str, more: &[&str]) -> Vec<String> {
    let out = containers::folder(name).display().to_string();
    let run = [
        "run",
        "--nemesis",
        NEMESES,
        "--mix",
        AT_ONCE,
        "--time",
        LOAD,
        "--rate",
        RATE,
    ];
    let on = [
        "--image",
        IMAGE,
        "--overrides",
        SLOWER,
        "--patience",
        PATIENCE,
        "--out",
        &out,
    ];
    let all = run.iter().chain(&on).chain(more);
    all.map(|word| (*word).to_owned()).collect()
}
