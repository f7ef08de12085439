//! One node by itself: what it does with its log and with signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;

use crate::harness::{Client, Cluster, DEADLINE, Port, Process, eventually};

/// Arguments of a cluster of one, without any source.
fn arguments(http: &Port, peer: &Port, data: &std::path::Path) -> Vec<String> {
    let members = format!("alone={}", peer.address());
    let data = data.join("data").display().to_string();
    [
        "node",
        "--name",
        "alone",
        "--data-directory",
        &data,
        "--http-listen",
        &http.address(),
        "--peer-listen",
        &peer.address(),
    ]
    .into_iter()
    .chain(["--initial-members", &members])
    .map(str::to_owned)
    .collect()
}

async fn ready(client: &Client, http: &Port) {
    let url = format!("http://{}/readyz", http.address());
    eventually("ready", DEADLINE, || async {
        match client.get(&url).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.text()),
            Err(error) => Err(error),
        }
    })
    .await;
}

/// A request under way that never ends: the node has read its head and waits for its body.
fn slow_request(http: &Port) -> TcpStream {
    let mut slow = TcpStream::connect(http.address()).expect("it listens");
    slow.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    slow.write_all(b"PUT /v2/kv/slow HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n")
        .expect("it reads");
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).expect("it asks for the body");
    assert_eq!(&answer, b"HTTP/1.1 100");
    slow.write_all(b"half").expect("it reads");
    slow
}

/// What a container's health check runs.
async fn health(http: &Port) -> std::process::Output {
    let url = format!("http://{}/readyz", http.address());
    let mut command = tokio::process::Command::new(Process::program());
    command
        .args(["health", "--url", &url])
        .output()
        .await
        .expect("it can be started")
}

/// Nobody reads its log, and the pipe is full: the node goes on, drops lines, counts them, and ends when it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_reader_that_blocks_does_not_block_the_node() {
    let directory = Cluster::directory();
    let (http, peer, client) = (Port::take(), Port::take(), Client::new());
    let mut command = tokio::process::Command::new(Process::program());
    command
        .args(arguments(&http, &peer, directory.path()))
        .args(["--log-level", "trace", "--log-format", "json"]);
    // Held open, never read.
    let mut node = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    ready(&client, &http).await;
    let dropped = async || {
        let page = client
            .get(&format!("http://{}/metrics", http.address()))
            .await
            .expect("metrics")
            .text();
        let line = page
            .lines()
            .find(|line| line.starts_with("blox_log_lines_dropped_total "))
            .expect("the counter is there")
            .to_owned();
        line.rsplit(' ')
            .next()
            .and_then(|count| count.parse::<f64>().ok())
            .expect("a number")
    };
    let began = Instant::now();
    let mut written = 0;
    while dropped().await == 0.0 {
        assert!(began.elapsed() < DEADLINE, "nothing was dropped after {written} writes");
        let url = format!("http://{}/v2/kv/key-{written}", http.address());
        let answer = client
            .ask(Method::PUT, &url, &[], Some(b"value".to_vec()))
            .await
            .expect("the node goes on");
        assert!(answer.is_success(), "{}", answer.text());
        written += 1;
    }
    let url = format!("http://{}/v2/kv/after", http.address());
    let answer = client
        .ask(Method::PUT, &url, &[], Some(b"value".to_vec()))
        .await
        .expect("the node goes on after lines were dropped");
    assert!(answer.is_success(), "{}", answer.text());
    // Stopped twice it ends with an error, and that must not wait for the reader either.
    let _slow = slow_request(&http);
    let pid = Pid::from_raw(node.id().expect("it runs") as i32);
    kill(pid, Signal::SIGTERM).expect("our own child can be signalled");
    let url = format!("http://{}/readyz", http.address());
    eventually("not ready any more", DEADLINE, || async {
        match client.get(&url).await {
            Ok(answer) if answer.status == 200 => Err(answer.text()),
            _ => Ok(()),
        }
    })
    .await;
    kill(pid, Signal::SIGTERM).expect("our own child can be signalled");
    let ended = tokio::time::timeout(Duration::from_secs(10), node.wait()).await;
    let status = ended
        .expect("a log nobody reads kept the process")
        .expect("it was awaited");
    assert_eq!(status.code(), Some(1));
}

/// Each line of the log says node, term and session; the first signal waits for a request under way, the second does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() {
    let directory = Cluster::directory();
    let (http, peer, client) = (Port::take(), Port::take(), Client::new());
    let mut arguments = arguments(&http, &peer, directory.path());
    arguments.extend(["--log-format", "json"].map(str::to_owned));
    let mut node = Process::blox("alone", &arguments, &[], directory.path());
    ready(&client, &http).await;
    let healthy = health(&http).await;
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    assert!(String::from_utf8_lossy(&healthy.stdout).contains("[+]leader ok"));
    let _slow = slow_request(&http);
    node.terminate();
    eventually("the graceful stop begins", DEADLINE, || async {
        let log = node.log();
        if log.contains("\"stopping; a second signal ends at once\"") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    node.terminate();
    let began = Instant::now();
    let status = node.ended().await;
    assert_eq!(status.code(), Some(1), "{}", node.last_words());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "it took {:?}",
        began.elapsed()
    );
    let log = node.log();
    let lines: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(lines.len() > 3, "{log}");
    for line in &lines {
        assert!(
            line["node"] == "alone" && line["term"].is_u64() && line["session"].is_u64(),
            "{line}"
        );
    }
    assert!(
        lines.iter().any(|line| line["session"].as_u64() > Some(0)),
        "the leader's lines say its session: {log}"
    );
}
