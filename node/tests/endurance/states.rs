//! Nodes compare their states.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::elections::NO_ECS;
use crate::harness::{Cluster, DEADLINE, eventually, report};

/// States are compared each second; the log is cut so short that a node away for a while comes back by snapshot.
const MORE: &str = "[timing]\nheartbeat = \"100ms\"\nelection_min = \"500ms\"\nelection_max = \"1s\"\ncompare_states = \"250ms\"\n\
                    [snapshot]\nentries = 200\nkeep_entries = 20\n";
/// Enough entries that every node keeps hashes to compare, and that the log is cut.
const WRITES: usize = 300;
/// Writes until which a node that is wrong must have ended.
const WRITES_MAX: usize = 20_000;

/// What one node says of differing states.
async fn differences(cluster: &Cluster, position: usize) -> Result<Vec<Value>, String> {
    let url = format!("{}/v2/cluster", cluster.nodes[position].url());
    let status = cluster.client.get_json(&url).await?;
    Ok(status["state_differences"].as_array().cloned().unwrap_or_default())
}

async fn metric(cluster: &Cluster, position: usize, name: &str) -> Result<f64, String> {
    cluster.client.metric(&cluster.nodes[position].url(), name).await
}

async fn write(cluster: &Cluster, first: usize, writes: usize) {
    for number in 0..writes {
        let node = &cluster.nodes[first % cluster.nodes.len()];
        let url = format!("{}/v2/kv/states/{}", node.url(), number % 20);
        // A leader may have to be found first.
        eventually(&url, DEADLINE, || async {
            let body = Some(number.to_string().into_bytes());
            let answer = cluster.client.ask(Method::PUT, &url, &[], body).await?;
            if answer.is_success() {
                Ok(())
            } else {
                Err(answer.text())
            }
        })
        .await;
    }
}

/// Waits until the leader has compared so many more states, and no node has an alarm.
async fn compared_without_alarm(cluster: &Cluster, more: f64) {
    let leader = cluster.leader().await;
    let name = "blox_raft_states_compared_total";
    let before = metric(cluster, leader, name).await.expect("the leader runs");
    eventually("states compared", DEADLINE, || async {
        let now = metric(cluster, leader, name).await?;
        if now >= before + more {
            Ok(())
        } else {
            Err(format!("{now} comparisons, {before} before"))
        }
    })
    .await;
    for position in 0..cluster.nodes.len() {
        if cluster.nodes[position].runs() {
            let said = differences(cluster, position).await.expect("it runs");
            assert!(said.is_empty(), "equal states differ: {said:?}");
        }
    }
}

/// Equal states never raise the alarm, also across a restart and the installation of a snapshot. A state in which one node's apply wrote
/// what the others did not is found within a round: every node names it, its log says so, it ends and stays away, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_differs_is_found_and_ends() {
    let mut cluster = Cluster::start_with(Cluster::directory(), NO_ECS, &[], MORE).await;
    write(&cluster, 0, WRITES).await;
    compared_without_alarm(&cluster, 4.0).await;

    // Away until the log is cut: it comes back by snapshot, and is compared again once it has applied something itself.
    let away = cluster.follower().await;
    let held = metric(&cluster, away, "blox_raft_last_log_index").await;
    cluster.nodes[away].kill().await;
    write(&cluster, (away + 1) % 3, 2 * WRITES).await;
    cluster.purged_beyond(held.expect("it runs")).await;
    cluster.nodes[away].start();
    cluster.ready(away).await;
    eventually("a snapshot installed", DEADLINE, || async {
        let installed = metric(&cluster, away, "blox_raft_snapshot_installed_total").await?;
        if installed >= 1.0 {
            Ok(())
        } else {
            Err("none yet".to_owned())
        }
    })
    .await;
    write(&cluster, 0, 50).await;
    compared_without_alarm(&cluster, 6.0).await;

    let wrong = cluster.follower().await;
    let name = cluster.nodes[wrong].name.clone();
    cluster.nodes[wrong]
        .set_failpoint("store::diverge", "1*return->off")
        .await;
    write(&cluster, (wrong + 1) % 3, 50).await;
    let status = cluster.nodes[wrong].ended_by_itself().await;
    let log = cluster.nodes[wrong].log();
    assert!(
        log.contains(&format!(
            "the state of `{name}` differs from that of a majority of nodes"
        )),
        "{status}: it does not say why:\n{log}"
    );
    for position in (0..3).filter(|position| *position != wrong) {
        let said = eventually("the alarm", DEADLINE, || async {
            let said = differences(&cluster, position).await?;
            if said.is_empty() {
                Err("none yet".to_owned())
            } else {
                Ok(said)
            }
        })
        .await;
        assert_eq!(
            (said.len(), said[0]["node"].as_str()),
            (1, Some(name.as_str())),
            "{said:?}"
        );
        assert_eq!(said[0]["majority"], true);
        let gauge = metric(&cluster, position, "blox_raft_states_differing").await;
        assert_eq!(gauge, Ok(1.0));
    }
    let leader = cluster.leader().await;
    assert!(
        cluster.nodes[leader]
            .log()
            .contains("ALARM: the states of nodes differ")
    );

    // No restart makes it right again, and the others go on without it.
    cluster.nodes[wrong].start();
    cluster.nodes[wrong].ended_by_itself().await;
    assert!(cluster.nodes[wrong].log().contains("It stays out of the cluster"));
    write(&cluster, leader, 50).await;
    let still = differences(&cluster, leader).await.expect("it runs");
    assert_eq!(still.len(), 1, "an alarm stands until its node is gone");
    report(
        "design: states compared",
        &[("found within", "a round"), ("false alarms", "0"), ("named", &name)],
    );
}

/// The leader is no exception: its followers' states agree against it, and it ends; the others elect one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_state_differs_ends() {
    let mut cluster = Cluster::start_with(Cluster::directory(), NO_ECS, &[], MORE).await;
    let wrong = cluster.leader().await;
    cluster.nodes[wrong]
        .set_failpoint("store::diverge", "1*return->off")
        .await;
    // Until it ends: what is not answered any more is as good.
    let mut number = 0;
    while !cluster.nodes[wrong].has_ended() {
        number += 1;
        let url = format!("{}/v2/kv/states/{}", cluster.nodes[(wrong + 1) % 3].url(), number % 20);
        drop(cluster.client.ask(Method::PUT, &url, &[], Some(b"x".to_vec())).await);
        assert!(number < WRITES_MAX, "it does not end:\n{}", cluster.nodes[wrong].log());
    }
    cluster.nodes[wrong].ended_by_itself().await;
    let leader = cluster.leader().await;
    let name = cluster.nodes[wrong].name.clone();
    eventually("the next leader knows", Duration::from_secs(10), || async {
        let said = differences(&cluster, leader).await?;
        if said.iter().any(|one| one["node"] == name.as_str()) {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    })
    .await;
}
