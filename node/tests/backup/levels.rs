//! Feature levels, and nodes of different versions in one cluster: nodes that pretend to be of a release before or after this one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command::{blox, text};
use crate::harness::{Cluster, DEADLINE, Node, REGION, SimulatorProcess, eventually};

/// Read by builds for tests only: the newest feature level that a node says it knows.
const KNOWN_LEVEL: &str = "BLOX_FAILPOINTS_FEATURE_LEVEL";
/// Has a leader add a command that no version knows to what it proposes; see `raft/src/propose/batcher.rs`.
const NEWER_COMMAND: &str = "raft::newer-command";
/// How often the older node may come to lead before another one does.
const TURNS_MAX: usize = 8;
const THIS: &str = "1";
const NEXT: &str = "2";

fn pretend(node: &mut Node, level: &str, failpoints: &str) {
    node.set_environment(KNOWN_LEVEL, level);
    node.set_environment("FAILPOINTS", failpoints);
}

async fn level(cluster: &Cluster, position: usize) -> Value {
    let status = cluster.get(position, "/v2/cluster").await.json();
    status["feature_level"].clone()
}

/// Waits until every running node's state has this level.
async fn all_at(cluster: &Cluster, wanted: u64) {
    for position in 0..cluster.nodes.len() {
        if cluster.nodes[position].runs() {
            eventually("the feature level", DEADLINE, || async {
                let found = level(cluster, position).await;
                if found == wanted {
                    Ok(())
                } else {
                    Err(found.to_string())
                }
            })
            .await;
        }
    }
}

/// Waits until a node has ended by itself, and gives everything it wrote.
async fn last_words(node: &mut Node) -> String {
    node.ended_by_itself().await;
    node.words()
}

/// As [`last_words`]; `None`: it still runs after so long.
async fn last_words_within(node: &mut Node, patience: Duration) -> Option<String> {
    let begun = Instant::now();
    while !node.has_ended() {
        if begun.elapsed() > patience {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Some(last_words(node).await)
}

/// Proves the gate, the raise, and both refusals: with one older member in the cluster the level stays and nothing newer is written; once that
/// member knows the level too it rises by itself, newer commands are written, and a node that knows less does not start any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_rises_when_every_member_knows_it() {
    let directory = Cluster::directory();
    let place = directory.path().to_owned();
    let simulator = SimulatorProcess::start(1, &[REGION], directory.path()).await;
    let mut cluster = Cluster::prepare(directory, None, &simulator.url(), &[], "");
    let gated = format!("{NEWER_COMMAND}=return(gated)");
    pretend(&mut cluster.nodes[0], NEXT, &gated);
    pretend(&mut cluster.nodes[1], NEXT, &gated);
    pretend(&mut cluster.nodes[2], THIS, "");
    cluster.begin().await;
    // Two rounds of questions of a leader that knows the next level; if the older one leads, nobody asks.
    if cluster.leader().await == 2 {
        cluster.nodes[2].stop().await;
        cluster.leader().await;
        cluster.nodes[2].start();
        cluster.ready(2).await;
    }
    let waited = Instant::now();
    for number in 0.. {
        cluster.put(&format!("/v2/kv/{number}"), &json!({})).await;
        if waited.elapsed() > Duration::from_millis(2_500) {
            break;
        }
    }
    all_at(&cluster, 1).await;
    cluster.nodes[2].assert_runs();

    cluster.nodes[2].stop().await;
    pretend(&mut cluster.nodes[2], NEXT, "");
    cluster.nodes[2].start();
    cluster.ready(2).await;
    all_at(&cluster, 2).await;
    for number in 0..20 {
        cluster.put(&format!("/v2/kv/{number}"), &json!({"newer": true})).await;
    }
    for node in &mut cluster.nodes {
        node.assert_runs();
    }

    cluster.nodes[2].stop().await;
    pretend(&mut cluster.nodes[2], THIS, "");
    cluster.nodes[2].start();
    let words = last_words(&mut cluster.nodes[2]).await;
    assert!(
        words.contains("the state has feature level 2, this version of blox knows up to 1"),
        "{words}"
    );
    assert!(
        words.contains("start it with the version that the others run"),
        "{words}"
    );
    cluster.put("/v2/kv/last", &json!({})).await;

    // Nor does a backup of that level go into a cluster of this one.
    let file = place.join("newer.blox");
    let endpoint = cluster.nodes[0].url();
    // The command line is this release's own: it refuses what it has just received.
    let refused = blox(&["snapshot", "save", text(&file), "--endpoint", &endpoint], &[])
        .await
        .refused();
    assert!(
        refused.contains("feature level 2") && refused.contains("use a newer version of blox"),
        "{refused}"
    );
    assert!(!file.exists());
}

/// Proves that a node that meets a command it does not know ends with a message that says what to do, and that the others, which know it, go on
/// without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_command_ends_the_node_that_does_not_know_it() {
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(1, &[REGION], directory.path()).await;
    let mut cluster = Cluster::prepare(directory, None, &simulator.url(), &[], "");
    // A newer release that broke the rule: it writes whatever the others know.
    let ungated = format!("{NEWER_COMMAND}=return");
    pretend(&mut cluster.nodes[0], NEXT, &ungated);
    pretend(&mut cluster.nodes[1], NEXT, &ungated);
    pretend(&mut cluster.nodes[2], THIS, "");
    for node in &mut cluster.nodes {
        node.start();
    }
    // The third may lead first, and writes nothing newer: then it hands over.
    let mut words = None;
    for _ in 0..TURNS_MAX {
        words = last_words_within(&mut cluster.nodes[2], Duration::from_secs(3)).await;
        if words.is_some() {
            break;
        }
        cluster.nodes[2].stop().await;
        cluster.nodes[2].start();
    }
    let words = words.expect("the older node ends at the command");
    assert!(
        words.contains("that this version of blox does not know; it knows feature levels up to 1"),
        "{words}"
    );
    assert!(
        words.contains("start it with the version that the others run"),
        "{words}"
    );
    assert!(words.contains("log entry "), "{words}");
    for position in [0, 1] {
        cluster.ready(position).await;
    }
    cluster.put("/v2/kv/after", &json!({"well": true})).await;
    // Started again as it is, it ends again: it neither skips the entry nor serves without it.
    cluster.nodes[2].start();
    let words = last_words(&mut cluster.nodes[2]).await;
    assert!(words.contains("does not know"), "{words}");
    // With a version that knows the command it goes on where it stood.
    pretend(&mut cluster.nodes[2], NEXT, "");
    cluster.nodes[2].start();
    cluster.ready(2).await;
    let value = cluster.get(2, "/v2/kv/after").await;
    assert_eq!(value.json(), json!({"well": true}));
}
