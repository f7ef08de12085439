//! The short story on real containers, some minute and a half, wherever Docker and Docker Compose are there and what nodes run in is made
//! (`scripts/prerequisites.sh test` makes it); `BLOX_FAILOVER_TEST=0` turns it off. Speaks the runner's own protocol, so that otherwise the story is
//! listed as ignored, and counted as skipped by its name, instead of passing silently.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const NAME: &str = "a_short_story_of_failover_breaks_no_promise";
/// An image of its own: what `make up` made stays as it is.
const IMAGE: &str = "blox:test";
/// What that image is made of. Without a registry and a network they cannot be made anew.
const BASES: [&str; 2] = ["debian:bookworm-slim", "blox:runtime"];
/// The nodes are built without optimisation, and may share the machine: times are allowed to be so many times as long, elections take longer, and so
/// many requests a second are enough.
const PATIENCE: &str = "4";
const SLOWER: &str = "jepsen-tests/tests/slower.yml";
const RATE: &str = "60";
/// How long Docker may take to say that it is there.
const ASK_SECONDS_MAX: &str = "20";
/// How long packing the nodes' binary may take.
const PACK_SECONDS_MAX: &str = "120";
/// How long the story may take where promises are broken: below what the runner allows, so that it ends by itself, and its containers with it.
const STORY_SECONDS_MAX: &str = "280";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let obstacle = obstacle();
    if given("--list") {
        // Asked twice: for all tests, and for the ignored ones.
        if !given("--ignored") || obstacle.is_some() {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let chosen = filter.is_none_or(|filter| NAME.contains(filter.as_str()));
    if let Some(why) = obstacle {
        println!("test {NAME} ... ignored, {why}");
        return ExitCode::SUCCESS;
    }
    if !chosen {
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

/// Why the story cannot be told here, if it cannot.
fn obstacle() -> Option<String> {
    if std::env::var_os("BLOX_FAILOVER_TEST").is_some_and(|asked| asked == "0") {
        return Some("turned off by BLOX_FAILOVER_TEST=0".to_owned());
    }
    if !succeeds("docker", &["info"]) {
        return Some("no Docker answers here".to_owned());
    }
    if !succeeds("docker", &["compose", "version"]) && !succeeds("docker-compose", &["version"]) {
        return Some("there is no Docker Compose here".to_owned());
    }
    if !succeeds("sh", &["-c", "PATH=$PATH:/usr/sbin:/sbin; command -v iptables"]) {
        return Some("there is no iptables here".to_owned());
    }
    if !blox().is_file() {
        return Some(format!(
            "{} is not built: the whole workspace must be",
            blox().display()
        ));
    }
    let missing = BASES
        .iter()
        .find(|image| !succeeds("docker", &["image", "inspect", image]))?;
    Some(format!(
        "there is no image {missing} here (scripts/prerequisites.sh test)"
    ))
}

/// The binary that the other tests use.
fn blox() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_failover")).with_file_name("blox")
}

/// Ended by SIGTERM after so long. In the foreground: it stays in the runner's process group, and ends with it.
fn at_most(seconds: &str, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", seconds, program]).stdin(Stdio::null());
    command
}

fn succeeds(program: &str, words: &[&str]) -> bool {
    let mut command = at_most(ASK_SECONDS_MAX, program);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Packs the binary, and tells the story with it.
fn tell() -> Result<(), String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("the crate stands in no workspace")?;
    let mut image = at_most(PACK_SECONDS_MAX, "deploy/image.sh");
    image
        .current_dir(workspace)
        .env("BLOX_BINARY", blox())
        .env("BLOX_IMAGE", IMAGE);
    run(&mut image)?;
    let mut story = at_most(STORY_SECONDS_MAX, env!("CARGO_BIN_EXE_failover"));
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("failover");
    story
        .current_dir(workspace)
        .args(["--short", "--image", IMAGE, "--overrides", SLOWER])
        .args(["--patience", PATIENCE, "--rate", RATE, "--out"])
        .arg(out);
    run(&mut story)
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} ends with {status}"))
    }
}
