//! What the program says on the command line.

use std::process::{Command, Output};

use crate::harness::{Cluster, Process};

fn blox(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(Process::program());
    command.args(arguments).envs(environment.iter().copied());
    command.output().expect("the program can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `print-default` prints can be used as it is, and says what it comes to.
#[test]
fn the_printed_configuration_can_be_used() {
    let directory = Cluster::directory();
    let file = directory.path().join("blox.toml");
    let printed = blox(&["config", "print-default"], &[]);
    assert!(printed.status.success());
    std::fs::write(&file, &printed.stdout).expect("the file can be written");
    let checked = blox(
        &["config", "check", &file.display().to_string()],
        &[("BLOX_HTTP_LISTEN", "127.0.0.1:2345")],
    );
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(
        text(&checked.stdout).contains("users at 127.0.0.1:2345"),
        "{}",
        text(&checked.stdout)
    );
}

/// A key that is not known is an error with its line and a suggestion, for `check` and for `node`.
#[test]
fn an_unknown_key_is_an_error() {
    let directory = Cluster::directory();
    let file = directory.path().join("blox.toml");
    std::fs::write(&file, "name = \"a\"\ndata_directry = \"x\"\n").expect("the file can be written");
    let path = file.display().to_string();
    for arguments in [["config", "check", path.as_str()], ["node", "--config", path.as_str()]] {
        let refused = blox(&arguments, &[]);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        let message = text(&refused.stderr);
        assert!(
            message.contains("line 2") && message.contains("did you mean `data_directory`?"),
            "{message}"
        );
    }
}

/// Wrong usage is exit code 2, and a node that does not answer is unhealthy.
#[test]
fn exit_codes_tell_what_happened() {
    assert_eq!(blox(&["nodes"], &[]).status.code(), Some(2));
    let unhealthy = blox(
        &["health", "--url", "http://127.0.0.1:9/readyz", "--timeout-seconds", "2"],
        &[],
    );
    assert_eq!(unhealthy.status.code(), Some(1));
    assert!(
        text(&unhealthy.stderr).contains("no answer"),
        "{}",
        text(&unhealthy.stderr)
    );
}

/// Without TLS and tokens a node listens off loopback only where that is said.
#[test]
fn listening_off_loopback_must_be_said() {
    let arguments = [
        "node",
        "--name",
        "a",
        "--initial-members",
        "a=10.0.0.1:2010",
        "--peer-advertise",
        "10.0.0.1:2010",
    ];
    let refused = blox(&[&arguments[..], &["--peer-listen", "0.0.0.0:2010"]].concat(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("insecure = true"),
        "{}",
        text(&refused.stderr)
    );
}
