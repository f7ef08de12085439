//! The short story on real containers, at most two minutes, where it is asked for by BLOX_FAILOVER_TEST=1: it needs Docker, and a base image that
//! may have to be made. Speaks the runner's own protocol, so that otherwise the story is listed as ignored, and counted as skipped by its name,
//! instead of passing silently.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const NAME: &str = "a_short_story_of_failover_breaks_no_promise";
/// An image of its own: what `make up` made stays as it is.
const IMAGE: &str = "blox:test";
/// The nodes are built without optimisation, and may share the machine.
const PATIENCE: &str = "4";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let there = std::env::var_os("BLOX_FAILOVER_TEST").is_some_and(|asked| asked == "1") && has_docker();
    if given("--list") {
        // Asked twice: for all tests, and for the ignored ones.
        if !given("--ignored") || !there {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let chosen = filter.is_none_or(|filter| NAME.contains(filter.as_str()));
    if !there || !chosen {
        println!(
            "test {NAME} ... ignored{}",
            if there {
                ""
            } else {
                ", not asked for by BLOX_FAILOVER_TEST=1, or no Docker here"
            }
        );
        return ExitCode::SUCCESS;
    }
    match tell() {
        Ok(()) => {
            println!("test {NAME} ... ok");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("test {NAME} ... FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn has_docker() -> bool {
    let quiet = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        command
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    quiet("docker", "info") && quiet("docker-compose", "version")
}

/// Packs the binary that the other tests use, and tells the story with it.
fn tell() -> Result<(), String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("the crate stands in no workspace")?;
    let failover = PathBuf::from(env!("CARGO_BIN_EXE_failover"));
    let blox = failover.with_file_name("blox");
    if !blox.is_file() {
        return Err(format!(
            "{} is not there: the whole workspace must be built",
            blox.display()
        ));
    }
    let mut image = Command::new("deploy/image.sh");
    image
        .current_dir(workspace)
        .env("BLOX_BINARY", &blox)
        .env("BLOX_IMAGE", IMAGE);
    run(&mut image)?;
    let mut story = Command::new(&failover);
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("failover");
    story
        .current_dir(workspace)
        .args(["--short", "--image", IMAGE, "--patience", PATIENCE, "--out"])
        .arg(out);
    run(&mut story)
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} ends with {status}"))
    }
}
