//! Full disks: each node's data directory is a small file system of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::harness::{Answer, Cluster, DEADLINE, Node, REGION, SimulatorProcess, count, eventually, seeded};
use crate::model::{Model, metric, noise, put, revision};

/// Each node's disk, MiB.
const DISK_MIB: u64 = 192;
/// What a node is told to keep free, MiB.
const RESERVE_MIB: u64 = 24;
/// What the ballast leaves free, MiB: too little for writes, and far from full.
const LEFT_MIB: u64 = 14;
const MIB: u64 = 1 << 20;
const VALUE_BYTES: usize = 16 << 10;
/// A leader that polls receives an event at once; so long after, it has.
const LOOK_AT_QUEUE_AFTER: Duration = Duration::from_millis(300);

/// Small file systems in a mount namespace of this test: they go with its last process, however that ends.
struct SmallDisks {
    places: Vec<PathBuf>,
}

impl SmallDisks {
    /// `None`: this user may not mount.
    fn mount(directory: &Path, names: &[&str]) -> Option<SmallDisks> {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).ok()?;
        let mut disks = SmallDisks { places: Vec::new() };
        for name in names {
            let place = directory.join(name);
            std::fs::create_dir(&place).expect("the test's directory can be written");
            let size = format!("size={DISK_MIB}m");
            mount(
                Some("tmpfs"),
                &place,
                Some("tmpfs"),
                MsFlags::empty(),
                Some(size.as_str()),
            )
            .ok()?;
            disks.places.push(place);
        }
        Some(disks)
    }
}

impl Drop for SmallDisks {
    fn drop(&mut self) {
        for place in &self.places {
            if let Err(error) = umount2(place, MntFlags::MNT_DETACH) {
                println!("{}: {error}; it goes with the test's namespace", place.display());
            }
        }
    }
}

fn free_bytes(place: &Path) -> u64 {
    let found = nix::sys::statvfs::statvfs(place).expect("a mounted file system");
    found.blocks_available() * found.fragment_size()
}

fn ballast(node: &Node) -> PathBuf {
    node.data().join("ballast")
}

/// Fills a node's disk up to so many bytes.
fn fill(node: &Node, left: u64) {
    let file = File::options()
        .create(true)
        .append(true)
        .open(ballast(node))
        .expect("the disk is not full yet");
    // The node writes meanwhile: until there is no more than that.
    loop {
        let free = free_bytes(&node.data());
        if free <= left {
            return;
        }
        let begin = file.metadata().expect("there").len();
        let bytes = i64::try_from(free - left).expect("a small disk");
        let begin = i64::try_from(begin).expect("a small disk");
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), begin, bytes) {
            println!("{}: {error} with {free} bytes free", node.name);
        }
    }
}

fn free(node: &Node) {
    std::fs::remove_file(ballast(node)).expect("the ballast is there");
}

/// One write to one node: acknowledged, or refused for want of room. Nothing else may happen.
async fn write_or_refused(
    cluster: &Cluster,
    model: &mut Model,
    position: usize,
    key: &str,
    value: &[u8],
) -> Option<Value> {
    let node = &cluster.nodes[position];
    let answer = put(&cluster.client, node, key, value, None)
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", node.name));
    match answer.status {
        200 => {
            model.acknowledged(key, revision(&answer), value);
            None
        }
        507 => Some(refusal(&answer)),
        status => panic!("{} answers {status}: {}", node.name, answer.text()),
    }
}

fn refusal(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["code"], "disk_full", "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("Free space there or enlarge the disk"), "{detail}");
    problem
}

/// Writes through every node in turn until all of them refuse; what they say.
async fn until_refused(cluster: &Cluster, model: &mut Model, value: &[u8]) -> Value {
    let began = std::time::Instant::now();
    let mut refused = 0;
    let mut number = 0;
    loop {
        let position = number % cluster.nodes.len();
        match write_or_refused(cluster, model, position, &format!("filling-{}", number % 16), value).await {
            Some(problem) if refused + 1 == cluster.nodes.len() => return problem,
            Some(_) => refused += 1,
            None => refused = 0,
        }
        number += 1;
        assert!(
            began.elapsed() < DEADLINE,
            "no refusal within {DEADLINE:?}, {number} writes"
        );
    }
}

/// As [`until_refused`], for want of room on these nodes and no others: what a leader knows of the others' disks is a heartbeat old.
async fn until_refused_for(cluster: &Cluster, model: &mut Model, value: &[u8], nodes: &[String]) -> Value {
    let began = std::time::Instant::now();
    loop {
        let problem = until_refused(cluster, model, value).await;
        if full_nodes(&problem) == nodes {
            return problem;
        }
        assert!(began.elapsed() < DEADLINE, "it should name {nodes:?}: {problem}");
    }
}

/// Waits until writes go on through every node.
async fn until_written(cluster: &Cluster, model: &mut Model, value: &[u8]) {
    for position in 0..cluster.nodes.len() {
        let node = &cluster.nodes[position];
        let answer = eventually("writes go on", DEADLINE, || async {
            let answer = put(&cluster.client, node, "after", value, None).await?;
            if answer.status == 200 {
                Ok(answer)
            } else {
                Err(answer.text())
            }
        })
        .await;
        model.acknowledged("after", revision(&answer), value);
    }
}

/// Linearizable reads of every node say what was acknowledged, and no leader has changed for want of room.
async fn reads_go_on(cluster: &Cluster, model: &Model, leader: usize) {
    for node in &cluster.nodes {
        for key in model.keys() {
            let url = format!("{}/v2/kv/{key}", node.url());
            let answer = cluster.client.get(&url).await.expect("reads go on");
            let revision = model.judge(&node.name, &key, &answer).expect("reads go on");
            assert!(revision >= model.revision, "{url} answers at revision {revision}");
        }
        let ready = cluster
            .client
            .get(&format!("{}/readyz", node.url()))
            .await
            .expect("it runs");
        assert_eq!(ready.status, 200, "{}", ready.text());
    }
    assert_eq!(cluster.leader().await, leader, "the leader stays");
}

/// The names in a refusal.
fn full_nodes(problem: &Value) -> Vec<String> {
    let disks = problem["disks"].as_array().expect("a list of disks");
    let name = |disk: &Value| {
        assert!(
            disk["free_bytes"].as_u64().is_some_and(|free| free > 0),
            "not full yet: {disk}"
        );
        disk["node"].as_str().expect("a name").to_owned()
    };
    disks.iter().map(name).collect()
}

/// Before the leader's disk is full, and before those of a majority are, writes are refused with 507 through every node, with a message
/// that names the disks and what to do; linearizable reads go on; the queue is not received from; with room, everything goes on by itself.
/// A minority's full disk holds nobody up: that node ends when it is really full, says why, and comes back once there is room. All that was
/// acknowledged is there on every node.
#[tokio::test]
async fn writes_are_refused_before_a_disk_is_full() {
    let (seed, mut generator) = seeded();
    let directory = Cluster::directory();
    let Some(disks) = SmallDisks::mount(directory.path(), &["a", "b", "c"]) else {
        println!("SKIPPED writes_are_refused_before_a_disk_is_full: mounting file systems needs root");
        return;
    };
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "small", 2).await;
    let source = SimulatorProcess::source("main", REGION);
    let more = format!(
        "[storage]\nreserve = \"{RESERVE_MIB}MiB\"\n[snapshot]\nentries = 500\nkeep_entries = 100\nsize = \"8MiB\"\nkeep_size = \"2MiB\"\n"
    );
    let mut cluster = Cluster::start_with(directory, &simulator.url(), &[source], &more).await;
    cluster.reconciled().await;
    let value = noise(&mut generator, VALUE_BYTES);
    let mut model = Model::default();
    until_written(&cluster, &mut model, &value).await;
    for node in &cluster.nodes {
        println!("{}: {} MiB free at rest", node.name, free_bytes(&node.data()) / MIB);
    }

    for round in 0..count(1, 5) {
        // The leader's.
        let leader = cluster.leader().await;
        fill(&cluster.nodes[leader], LEFT_MIB * MIB);
        let expected = [cluster.nodes[leader].name.clone()];
        let problem = until_refused_for(&cluster, &mut model, &value, &expected).await;
        println!(
            "round {round}, leader full: {}",
            problem["detail"].as_str().unwrap_or_default()
        );
        assert!(free_bytes(&cluster.nodes[leader].data()) > 0, "before it is full");
        let refusing = metric(&cluster.client, &cluster.nodes[leader], "blox_disk_refusing").await;
        assert_eq!(refusing, Ok(1.0));
        reads_go_on(&cluster, &model, leader).await;
        not_received(&simulator).await;
        free(&cluster.nodes[leader]);
        until_written(&cluster, &mut model, &value).await;
        cluster.holds_the_truth_of(&simulator, REGION).await;

        // Two followers': the leader's own disk has room.
        let leader = cluster.leader().await;
        let followers: Vec<usize> = (0..3).filter(|position| *position != leader).collect();
        for follower in &followers {
            fill(&cluster.nodes[*follower], LEFT_MIB * MIB);
        }
        let expected: Vec<String> = followers
            .iter()
            .map(|follower| cluster.nodes[*follower].name.clone())
            .collect();
        let problem = until_refused_for(&cluster, &mut model, &value, &expected).await;
        println!(
            "round {round}, followers full: {}",
            problem["detail"].as_str().unwrap_or_default()
        );
        reads_go_on(&cluster, &model, leader).await;
        free(&cluster.nodes[followers[0]]);
        until_written(&cluster, &mut model, &value).await;
        free(&cluster.nodes[followers[1]]);
        eventually("no disk is full", DEADLINE, || async {
            match metric(&cluster.client, &cluster.nodes[followers[1]], "blox_disk_refusing").await? {
                0.0 => Ok(()),
                _ => Err("it still refuses".to_owned()),
            }
        })
        .await;
    }

    // A minority's is really full: the node ends with what to do, the others go on.
    let follower = cluster.follower().await;
    fill(&cluster.nodes[follower], 0);
    let mut written = 0;
    // Whenever it gives back room of its own, that is taken as well.
    while !cluster.nodes[follower].has_ended() {
        model.put(&cluster, &format!("over-{}", written % 8), &value).await;
        fill(&cluster.nodes[follower], 0);
        written += 1;
        assert!(written < 10_000, "it goes on without a disk");
    }
    cluster.nodes[follower].ended_by_itself().await;
    println!("a full follower ended after {written} more writes");
    let log = cluster.nodes[follower].log();
    assert!(log.contains("No space left on device"), "{log}");
    assert!(
        log.contains("free space on it or enlarge it, then start this node again"),
        "{log}"
    );
    free(&cluster.nodes[follower]);
    cluster.nodes[follower].start();
    cluster.ready(follower).await;
    for node in &cluster.nodes {
        model.holds(&cluster.client, node).await;
    }
    drop(disks);
}

/// Waits until no poll is under way any more: then the events of a new instance stay in the queue.
async fn not_received(simulator: &SimulatorProcess) {
    let counts = || async {
        let queues = simulator.get("/queues").await;
        let sum = |name: &str| {
            let of = queues["queues"].as_array().expect("a list").iter();
            of.filter_map(|queue| queue[name].as_u64()).sum::<u64>()
        };
        (sum("visible"), sum("in_flight"))
    };
    eventually("events stay in the queue", DEADLINE, || async {
        let before = counts().await;
        simulator.instances(REGION, "small", 1).await;
        tokio::time::sleep(LOOK_AT_QUEUE_AFTER).await;
        let after = counts().await;
        if after.0 > before.0 && after.1 <= before.1 {
            println!(
                "the queue holds {} messages, {} of them received and not deleted",
                after.0 + after.1,
                after.1
            );
            return Ok(());
        }
        Err(format!("{before:?} -> {after:?}"))
    })
    .await;
}
