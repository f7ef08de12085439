//! Tests on real containers, wherever Docker and Docker Compose are there and what nodes run in is made (`scripts/prerequisites.sh test` makes it).
//! Speaks the runner's own protocol, so that otherwise they are listed as ignored, and counted as skipped by their names, instead of passing silently.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::UNIX_EPOCH;

/// An image of its own: what `make up` made stays as it is.
pub const IMAGE: &str = "blox:test";
/// The nodes are built without optimisation, and may share the machine: times are allowed to be so many times as long, elections take longer, and so
/// many requests a second are enough.
pub const PATIENCE: &str = "4";
pub const SLOWER: &str = "jepsen-tests/tests/slower.yml";
pub const RATE: &str = "60";
/// What that image is made of. Without a registry and a network they cannot be made anew.
const BASES: [&str; 2] = ["debian:bookworm-slim", "blox:runtime"];
/// How long Docker may take to say that it is there.
const ASK_SECONDS_MAX: &str = "20";
/// How long packing the nodes' binary may take.
const PACK_SECONDS_MAX: &str = "120";
/// How long one test may take where promises are broken: below what the runner allows, so that it ends by itself, and its containers with it.
const TEST_SECONDS_MAX: &str = "280";

/// One of them.
pub struct Test {
    /// As the runner knows it.
    pub name: &'static str,
    /// Set to 0, this variable turns it off.
    pub turned_off_by: &'static str,
    /// What is run, in the workspace's folder, once the nodes' binary is packed; its exit code is the verdict.
    pub program: &'static str,
    /// With which words.
    pub words: fn() -> Vec<String>,
}

/// Lists or runs them, as the runner asks.
pub fn main(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let is_chosen = |name: &str| match filter {
        None => true,
        Some(filter) if given("--exact") => name == filter,
        Some(filter) => name.contains(filter.as_str()),
    };
    let mut failed = false;
    let chosen = tests.iter().filter(|test| given("--list") || is_chosen(test.name));
    for test in chosen {
        if given("--list") {
            // Asked twice: for all tests, and for the ignored ones.
            if !given("--ignored") || test.obstacle().is_some() {
                println!("{}: test", test.name);
            }
        } else if let Some(why) = test.obstacle() {
            println!("test {} ... ignored, {why}", test.name);
        } else if let Err(why) = test.run() {
            println!("test {} ... FAILED: {why}", test.name);
            failed = true;
        } else {
            println!("test {} ... ok", test.name);
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Test {
    /// Why it cannot be run here, if it cannot.
    fn obstacle(&self) -> Option<String> {
        if std::env::var_os(self.turned_off_by).is_some_and(|asked| asked == "0") {
            return Some(format!("turned off by {}=0", self.turned_off_by));
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
        if !self.blox().is_file() {
            return Some(format!(
                "{} is not built: the whole workspace must be",
                self.blox().display()
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
    fn blox(&self) -> PathBuf {
        Path::new(self.program).with_file_name("blox")
    }

    /// Packs the binary, and runs the program on it.
    fn run(&self) -> Result<(), String> {
        self.pack()?;
        let mut program = at_most(TEST_SECONDS_MAX, self.program);
        program.current_dir(workspace()?).args((self.words)());
        run(&mut program)
    }

    /// Makes the image of the binary as it is now, unless that is what the image is made of.
    fn pack(&self) -> Result<(), String> {
        let binary = self.blox();
        let made_of = std::fs::metadata(&binary).and_then(|file| Ok((file.len(), file.modified()?)));
        let (bytes, made) = made_of.map_err(|error| format!("{}: {error}", binary.display()))?;
        let since_1970 = made.duration_since(UNIX_EPOCH).unwrap_or_default();
        let of_this = || {
            Some(format!(
                "{} of {bytes} bytes, {} ns",
                image_id()?,
                since_1970.as_nanos()
            ))
        };
        let note = folder("packed");
        let packed = std::fs::read_to_string(&note).ok();
        if packed.is_some() && packed == of_this() {
            return Ok(());
        }
        let mut image = at_most(PACK_SECONDS_MAX, "deploy/image.sh");
        image
            .current_dir(workspace()?)
            .env("BLOX_BINARY", binary)
            .env("BLOX_IMAGE", IMAGE);
        // Docker's builder may lose what it has just made where others build or prune at the same time.
        run(&mut image).or_else(|_| run(&mut image))?;
        // Without this note it is packed again, which takes a moment.
        let _ = std::fs::write(note, of_this().unwrap_or_default());
        Ok(())
    }
}

/// Where a test may write.
pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn workspace() -> Result<&'static Path, String> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .parent()
        .ok_or_else(|| "the crate stands in no workspace".to_owned())
}

fn image_id() -> Option<String> {
    let mut inspect = at_most(ASK_SECONDS_MAX, "docker");
    inspect.args(["image", "inspect", "--format", "{{.Id}}", IMAGE]);
    let output = inspect.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
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

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} ends with {status}"))
    }
}
