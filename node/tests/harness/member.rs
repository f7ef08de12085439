//! `blox member` as operators run it.

use std::process::{Output, Stdio};

use tokio::process::Command;

use super::{Cluster, DEADLINE, Process, eventually};

/// The endpoints of all nodes, each said by a flag of its own.
pub fn endpoints(cluster: &Cluster) -> Vec<String> {
    let said = |url: String| ["--endpoint".to_owned(), url];
    cluster.nodes.iter().flat_map(|node| said(node.url())).collect()
}

/// Not started yet; it dies with the test.
pub fn blox_member(endpoints: &[String], words: &[&str]) -> Command {
    let mut command = Command::new(Process::program());
    command
        .arg("member")
        .args(endpoints)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn member(endpoints: &[String], words: &[&str]) -> Output {
    blox_member(endpoints, words)
        .output()
        .await
        .expect("the program can be started")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it printed; it must have ended well.
pub fn well(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Why it refused, with exit code 1.
pub fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// Waits until a node with an empty disk says what is to be done.
pub async fn waits_to_be_taken_in(cluster: &Cluster, position: usize) {
    let url = format!("{}/readyz", cluster.nodes[position].url());
    let wanted = format!("blox member replace {}", cluster.nodes[position].name);
    eventually(&wanted, DEADLINE, || async {
        let answer = cluster.client.get(&url).await?;
        let says = answer.status == 503 && answer.text().contains(&wanted);
        if says { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}
