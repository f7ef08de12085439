//! The short story on real containers, some minute and a half; `BLOX_FAILOVER_TEST=0` turns it off.

mod containers;

use std::process::ExitCode;

use containers::{IMAGE, PATIENCE, RATE, SLOWER, Test};

fn main() -> ExitCode {
    containers::main(&[Test {
        name: "a_short_story_of_failover_breaks_no_promise",
        turned_off_by: "BLOX_FAILOVER_TEST",
        program: env!("CARGO_BIN_EXE_failover"),
        words: || {
            let out = containers::folder("failover").display().to_string();
            let words = [
                "--short",
                "--image",
                IMAGE,
                "--overrides",
                SLOWER,
                "--patience",
                PATIENCE,
            ];
            words
                .iter()
                .chain(&["--rate", RATE, "--out", &out])
                .map(|word| (*word).to_owned())
                .collect()
        },
    }])
}
