//! A sync that fails: the node ends with a message that names the file, acknowledges nothing more, and the cluster goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;

use crate::harness::{Cluster, DEADLINE, SimulatorProcess, count, eventually, seeded};
use crate::load::Load;
use crate::strace;

const WRITERS: usize = 4;
/// Acknowledged by the others before the node that failed comes back.
const WRITES_WITHOUT_IT: usize = 40;
/// RocksDB numbers its files: those to be soon have one of so many numbers.
const NUMBERS: usize = 200;
/// Snapshots often, so that the state is synced often; a log long enough for a node to come back by it, on the files it has.
const SNAPSHOTS: &str = "[snapshot]\nentries = 100\nkeep_entries = 100000\n";

/// Which node, and since when.
#[derive(Clone, Copy, Debug)]
enum Whose {
    /// The leader, from now on. A tracer that comes later stops a node at every call, so this is for what is synced at once.
    Leader,
    /// A follower, which is killed and started again with it.
    Follower,
}

/// What cannot be synced any more.
#[derive(Clone, Copy, Debug)]
enum What {
    /// The write-ahead log of the log.
    Log,
    /// The write-ahead log of the state: synced by each snapshot.
    State,
    /// A table of the state: written by each snapshot.
    StateTable,
    /// The manifest of the state's database.
    StateManifest,
    /// The directory of snapshots: synced when one is whole.
    Snapshots,
}

impl What {
    fn paths(self, data: &Path) -> Vec<PathBuf> {
        let state = || newest_in(&data.join("state"), |name| name.starts_with("generation-"));
        match self {
            What::Log => numbered_in(&data.join("raft/db"), "log"),
            What::State => numbered_in(&state(), "log"),
            What::StateTable => numbered_in(&state(), "sst"),
            What::StateManifest => manifests_in(&state()),
            What::Snapshots => vec![data.join("snapshots")],
        }
    }
}

fn all_in(directory: &Path, wanted: fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .expect("a node's directory can be read")
        .flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(wanted))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Those that are there of this kind, and those that come next.
fn numbered_in(directory: &Path, kind: &str) -> Vec<PathBuf> {
    let files = all_in(directory, |name| name.starts_with(|first: char| first.is_ascii_digit()));
    let numbers = files
        .iter()
        .filter_map(|file| file.file_stem()?.to_str()?.parse::<usize>().ok());
    let newest = numbers.max().unwrap_or_default();
    let wanted = newest.saturating_sub(NUMBERS / 2)..newest + NUMBERS;
    wanted
        .map(|number| directory.join(format!("{number:06}.{kind}")))
        .collect()
}

fn manifests_in(directory: &Path) -> Vec<PathBuf> {
    let named = |path: PathBuf| directory.join(format!("MANIFEST-{}", path.file_stem().unwrap_or_default().display()));
    numbered_in(directory, "log").into_iter().map(named).collect()
}

fn newest_in(directory: &Path, wanted: fn(&str) -> bool) -> PathBuf {
    all_in(directory, wanted).pop().expect("it is there")
}

/// From its nth sync on (in one thread: so strace counts) a file gives EIO, injected by strace into a running node or one that starts: identity,
/// log, state, snapshots. The node ends by itself with exit code 1 and its last line names the file; the others go on without it; it comes back.
/// In the end everything that was acknowledged is there, and the nodes hold the same state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_ends_the_node_and_not_the_cluster() {
    if let Err(why) = strace::available() {
        println!("SKIPPED a_sync_that_fails_ends_the_node_and_not_the_cluster: {why}");
        return;
    }
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[], directory.path()).await;
    let mut cluster = Cluster::prepare(directory, None, &simulator.url(), &[], SNAPSHOTS);
    first_starts(&mut cluster).await;

    no_answer_without_a_sync(&mut cluster).await;
    let load = Load::begin(&cluster, WRITERS, Duration::from_millis(2));
    let reduced = vec![
        (What::Log, Whose::Leader, 1),
        (What::Log, Whose::Follower, 3),
        (What::State, Whose::Follower, 1),
        (What::Snapshots, Whose::Follower, 1),
    ];
    let mut full: Vec<(What, Whose, usize)> = [1, 2, 5, 17].map(|nth| (What::Log, Whose::Leader, nth)).into();
    for what in [
        What::Log,
        What::State,
        What::StateTable,
        What::StateManifest,
        What::Snapshots,
    ] {
        full.extend([1, 2, 3, 5].map(|nth| (what, Whose::Follower, nth)));
    }
    let cases = count(reduced, full);
    println!("{} cases", cases.len());
    for (what, whose, nth) in cases {
        load.more(WRITERS).await;
        let position = match whose {
            Whose::Leader => cluster.leader().await,
            Whose::Follower => cluster.follower().await,
        };
        let node = &mut cluster.nodes[position];
        let paths = what.paths(&node.data());
        match whose {
            Whose::Leader => strace::fail_syncs_of(node, &paths, nth).await,
            Whose::Follower => {
                node.kill().await;
                node.start_as(&[], &strace::failing_syncs(&paths, nth));
            }
        }
        ends_and_names(
            &mut cluster,
            position,
            &paths,
            &format!("{what:?} of a {whose:?}, sync {nth}"),
        )
        .await;
        load.more(WRITES_WITHOUT_IT).await;
        cluster.start_all().await;
    }
    load.end(&cluster).await;
    let (index, hash) = cluster.same_state().await;
    println!("all nodes hold {hash} at index {index}");
}

/// Node c cannot begin: its identity, the note of its log, its directory give EIO. Then it cannot become a member, which the others are without
/// it. Each time it ends and says so; then it is let.
async fn first_starts(cluster: &mut Cluster) {
    let data = cluster.nodes[2].data();
    let identity = data.join("identity.json.new");
    let more = count(vec![], vec![data.clone(), data.join("raft/durable")]);
    for path in [identity.clone()].into_iter().chain(more) {
        cluster.nodes[2].start_as(&[], &strace::failing_syncs(std::slice::from_ref(&path), 1));
        ends_and_names(cluster, 2, &[path], "first start").await;
    }
    cluster.nodes[2].start();
    eventually("node c has begun", DEADLINE, || async {
        let begun = data.join("raft/durable").exists() && data.join("identity.json").exists();
        if begun { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    cluster.nodes[2].kill().await;
    cluster.nodes[0].start();
    cluster.nodes[1].start();
    cluster.nodes[2].start_as(&[], &strace::failing_syncs(std::slice::from_ref(&identity), 1));
    ends_and_names(cluster, 2, &[identity], "becoming a member").await;
    cluster.start_all_but(2).await;
    cluster.start_all().await;
}

/// One follower stands still, so that a majority needs the leader's own sync; that fails: the write has no answer of success.
async fn no_answer_without_a_sync(cluster: &mut Cluster) {
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.nodes[follower].pause();
    let paths = What::Log.paths(&cluster.nodes[leader].data());
    strace::fail_syncs_of(&mut cluster.nodes[leader], &paths, 1).await;
    let url = format!("{}/v2/kv/alone", cluster.nodes[leader].url());
    let answer = cluster.client.ask(Method::PUT, &url, &[], Some(b"x".to_vec())).await;
    let acknowledged = answer.as_ref().is_ok_and(|answer| answer.is_success());
    assert!(!acknowledged, "acknowledged by one sync of two: {answer:?}");
    ends_and_names(cluster, leader, &paths, "the sync that a majority needed").await;
    cluster.nodes[follower].resume();
    cluster.start_all().await;
}

/// It ends by itself, and the last that it says names one of these files.
async fn ends_and_names(cluster: &mut Cluster, position: usize, paths: &[PathBuf], case: &str) {
    let node = std::cell::RefCell::new(&mut cluster.nodes[position]);
    eventually(case, DEADLINE, || async {
        if node.borrow_mut().has_ended() {
            Ok(())
        } else {
            Err("it still runs".to_owned())
        }
    })
    .await;
    let node = node.into_inner();
    let status = node.ended_by_itself().await;
    assert_eq!(status.code(), Some(1), "{case}: {} ended with {status}", node.name);
    let log = node.log();
    let last = log
        .lines()
        .rev()
        .find(|line| line.contains("the node ends"))
        .unwrap_or_default();
    let named = paths.iter().find(|path| last.contains(&path.display().to_string()));
    assert!(
        named.is_some() && last.contains("Input/output error"),
        "{case}: the last line is {last}"
    );
    println!(
        "{case}: {} ended, naming {}",
        node.name,
        named.map_or_else(String::new, |path| path.display().to_string())
    );
}
