//! Lost nodes replaced by command while clients write and the others are killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::Value;

use super::load::Load;
use crate::harness::member::{endpoints, member, text, waits_to_be_taken_in, well};
use crate::harness::{Cluster, count, seeded};

/// Nobody answers there: these clusters observe no ECS.
pub const NO_ENDPOINT: &str = "http://127.0.0.1:9";
/// The others are killed so soon after the command began, milliseconds: before it has found the leader, while the new node catches up, in the
/// change of the voters, or after it.
const KILLED_AFTER_MS: std::ops::Range<u64> = 0..1_200;

/// A node is killed and its disk lost; started anew it waits, and `blox member replace` gives it its place with a new number, though the others
/// are killed meanwhile: each command ends well. In the end every acknowledged write is there, and all nodes hold the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_nodes_are_replaced_under_load_while_others_die() {
    let rounds = count(2, 10);
    let (seed, mut random) = seeded();
    let mut cluster = Cluster::start(Cluster::directory(), NO_ENDPOINT, &[]).await;
    let load = Load::begin(&cluster);
    let endpoints = endpoints(&cluster);
    let mut numbers: BTreeSet<u64> = ids(&list(&endpoints).await).into_iter().collect();
    let (mut kills, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds {
        let lost = random.random_range(0..3);
        let name = cluster.nodes[lost].name.clone();
        cluster.nodes[lost].kill().await;
        std::fs::remove_dir_all(cluster.nodes[lost].data()).expect("its disk can be lost");
        cluster.nodes[lost].start();
        waits_to_be_taken_in(&cluster, lost).await;

        let began = Instant::now();
        let replacing = {
            let (endpoints, name) = (endpoints.clone(), name.clone());
            tokio::spawn(async move { member(&endpoints, &["replace", &name]).await })
        };
        for _ in 0..random.random_range(1..=2) {
            tokio::time::sleep(Duration::from_millis(random.random_range(KILLED_AFTER_MS))).await;
            let other = (lost + random.random_range(1..3)) % 3;
            cluster.nodes[other].kill().await;
            cluster.nodes[other].start();
            kills += 1;
        }
        let replaced = replacing.await.expect("the command ends");
        well(&replaced);
        println!(
            "round {round}: {name} replaced after {:?}: {}",
            began.elapsed(),
            text(&replaced.stderr).replace('\n', " | ")
        );
        slowest = slowest.max(began.elapsed());
        for position in 0..3 {
            cluster.ready(position).await;
        }
        let list = list(&endpoints).await;
        let now = ids(&list);
        assert_eq!(names(&list, "voter"), ["a", "b", "c"], "seed {seed}: {list}");
        assert!(
            names(&list, "learner").is_empty() && list["changing"] == false,
            "{list}"
        );
        let given: Vec<&u64> = now.iter().filter(|id| !numbers.contains(id)).collect();
        assert_eq!(given.len(), 1, "one number that was never given before: {list}");
        numbers.extend(now);
    }
    let acknowledged = load.end().await;
    let (index, _) = cluster.same_state().await;
    for (key, value) in &acknowledged {
        let held = cluster.get(0, &format!("/v2/kv/{key}")).await;
        assert_eq!(&held.text(), value, "seed {seed}: {key}");
    }
    println!(
        "{rounds} nodes replaced, {kills} kills of others, {} acknowledged writes all there, slowest replacement {slowest:?}, states equal at \
         index {index}",
        acknowledged.len()
    );
    assert!(acknowledged.len() > rounds * 20, "the load went on");
}

/// The members, once a leader answers.
pub async fn list(endpoints: &[String]) -> Value {
    let listed = member(endpoints, &["list", "--output", "json"]).await;
    serde_json::from_str(&well(&listed)).expect("JSON, as was asked for")
}

pub fn ids(list: &Value) -> Vec<u64> {
    let members = list["members"].as_array().expect("a list");
    members.iter().filter_map(|member| member["id"].as_u64()).collect()
}

fn names(list: &Value, role: &str) -> Vec<String> {
    let members = list["members"].as_array().expect("a list").iter();
    let mut names: Vec<String> = members
        .filter(|member| member["role"] == role)
        .filter_map(|member| member["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}
