//! Damaged files: flipped, cut, zeroed and missing ones, of every kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use crate::harness::{Cluster, DEADLINE, Node, REGION, SimulatorProcess, count, seeded};
use crate::model::{Model, noise};

/// Snapshots come often, so that the log is purged and every kind of file is there.
const POLICY: &str = "[snapshot]\nentries = 60\nkeep_entries = 20\n";
const KEYS: usize = 40;
const VALUE_BYTES: usize = 8 << 10;
const ZEROED_BYTES: u64 = 4 << 10;
/// So much of a value tells it from others.
const MARK_BYTES: usize = 32;
const FLIPS_MAX: usize = 1_000;
/// A damaged state may show itself only when it is read: then the node ends, and starts again without it.
const STARTS_MAX: usize = 4;

/// A kind of file, as a folder of the data directory and what its name begins or ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Identity,
    LogTable,
    LogWriteAhead,
    LogManifest,
    LogCurrent,
    LogOptions,
    DurableNote,
    StateTable,
    StateWriteAhead,
    StateManifest,
    StateCurrent,
    StatePointer,
    SnapshotTable,
    SnapshotManifest,
    SnapshotCheckpoint,
}

impl Kind {
    const ALL: [Kind; 15] = [
        Kind::LogWriteAhead,
        Kind::StateTable,
        Kind::Identity,
        Kind::StateManifest,
        Kind::LogTable,
        Kind::SnapshotTable,
        Kind::DurableNote,
        Kind::StateWriteAhead,
        Kind::LogManifest,
        Kind::StatePointer,
        Kind::SnapshotManifest,
        Kind::LogCurrent,
        Kind::StateCurrent,
        Kind::SnapshotCheckpoint,
        Kind::LogOptions,
    ];

    /// What a node must do about it; a start on whole data is always right, where the damage hit nothing that counts.
    fn remedy(self) -> Outcome {
        match self {
            Kind::Identity
            | Kind::LogTable
            | Kind::LogWriteAhead
            | Kind::LogManifest
            | Kind::LogCurrent
            | Kind::LogOptions
            | Kind::DurableNote => Outcome::Refused,
            _ => Outcome::Rebuilt,
        }
    }

    /// What must come of a damage that certainly hits something that counts; `None`: it may be in bytes nobody needs.
    fn certain(self, damage: Damage) -> Option<Outcome> {
        match (self, damage) {
            // All of the newest one was durable: the note says so.
            (Kind::LogWriteAhead, Damage::Cut | Damage::Missing)
            | (Kind::Identity | Kind::LogManifest | Kind::LogCurrent | Kind::DurableNote, Damage::Missing) => {
                Some(Outcome::Refused)
            }
            (
                Kind::StateManifest
                | Kind::StateCurrent
                | Kind::StatePointer
                | Kind::SnapshotManifest
                | Kind::SnapshotCheckpoint,
                Damage::Missing,
            ) => Some(Outcome::Rebuilt),
            _ => None,
        }
    }

    /// Every file of the kind.
    fn files(self, data: &Path) -> Vec<PathBuf> {
        let (folder, matches): (&str, fn(&str) -> bool) = match self {
            Kind::Identity => ("", |name| name == "identity.json"),
            Kind::LogTable => ("raft/db", |name| name.ends_with(".sst")),
            Kind::LogWriteAhead => ("raft/db", |name| name.ends_with(".log")),
            Kind::LogManifest => ("raft/db", |name| name.starts_with("MANIFEST-")),
            Kind::LogCurrent => ("raft/db", |name| name == "CURRENT"),
            Kind::LogOptions => ("raft/db", |name| name.starts_with("OPTIONS-")),
            Kind::DurableNote => ("raft", |name| name == "durable"),
            Kind::StateTable => ("state/*", |name| name.ends_with(".sst")),
            Kind::StateWriteAhead => ("state/*", |name| name.ends_with(".log")),
            Kind::StateManifest => ("state/*", |name| name.starts_with("MANIFEST-")),
            Kind::StateCurrent => ("state/*", |name| name == "CURRENT"),
            Kind::StatePointer => ("state", |name| name == "CURRENT"),
            Kind::SnapshotTable => ("snapshots/*/state", |name| name.ends_with(".sst")),
            Kind::SnapshotManifest => ("snapshots/*", |name| name == "manifest"),
            Kind::SnapshotCheckpoint => ("snapshots/*/state", |name| name == "CHECKPOINT"),
        };
        let mut folders = vec![data.to_owned()];
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            folders = match part {
                "*" => folders
                    .iter()
                    .flat_map(|folder| entries(folder))
                    .filter(|path| path.is_dir())
                    .collect(),
                name => folders.into_iter().map(|folder| folder.join(name)).collect(),
            };
        }
        let mut files: Vec<PathBuf> = folders.iter().flat_map(|folder| entries(folder)).collect();
        files.retain(|path| path.is_file() && path.file_name().is_some_and(|name| matches(&name.to_string_lossy())));
        // An empty one cannot be damaged.
        files.retain(|path| fs::metadata(path).is_ok_and(|found| found.len() > 0));
        files.sort();
        files
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    entries.unwrap_or_default()
}

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flipped(usize),
    Cut,
    Zeroed,
    Missing,
}

/// Damages a file in place, where it ends with `last` before that: a write-ahead log is longer than what it holds. What was done.
fn inflict(damage: Damage, path: &Path, last: &[u8], generator: &mut impl Rng) -> String {
    // In place: a table's other name, in a snapshot, is the same file.
    let write = |bytes: &[u8]| fs::write(path, bytes).expect("written");
    let mut bytes = fs::read(path).expect("readable");
    let mark = &last[..MARK_BYTES.min(last.len())];
    let found = bytes.windows(mark.len().max(1)).rposition(|window| window == mark);
    let length = found.map_or(bytes.len(), |start| bytes.len().min(start + last.len()));
    match damage {
        Damage::Flipped(bits) => {
            for _ in 0..bits {
                let bit = generator.random_range(0..length * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            write(&bytes);
            format!("{bits} bits flipped")
        }
        Damage::Cut => {
            let left = generator.random_range(0..length);
            bytes.truncate(left);
            write(&bytes);
            format!("cut from {length} to {left} bytes")
        }
        Damage::Zeroed => {
            let begin = generator.random_range(0..length);
            let end = length.min(begin + ZEROED_BYTES as usize);
            bytes[begin..end].fill(0);
            write(&bytes);
            format!("bytes {begin} to {end} of {length} zeroed")
        }
        Damage::Missing => {
            fs::remove_file(path).expect("removed");
            "removed".to_owned()
        }
    }
}

/// What a node did about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It started as if nothing was: the damage hit nothing that counts.
    Unharmed,
    /// It gave up the damaged part and took it from elsewhere.
    Rebuilt,
    /// It did not start, and said what to do.
    Refused,
}

/// One node's files are damaged while it is stopped: it refuses to start and says what to do, or rebuilds the damaged part and says so; in no
/// case does it serve anything but the truth at the revision it says, before, while and after that.
#[tokio::test]
async fn damaged_files_never_become_answers() {
    let (seed, mut generator) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "small", 5).await;
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::start_with(directory, &simulator.url(), &[source], POLICY).await;
    cluster.reconciled().await;
    let mut model = Model::default();
    for number in 0..4 * KEYS {
        let value = noise(&mut generator, VALUE_BYTES);
        model.put(&cluster, &format!("k{}", number % KEYS), &value).await;
    }
    simulator.wait_until_still().await;

    let mut outcomes: BTreeMap<(Kind, Outcome), usize> = BTreeMap::new();
    for case in 0..count(14, 60) {
        // Every kind in turn; how is left to the seed, but for the first: a log whose durable tail is gone.
        let kind = Kind::ALL[case % Kind::ALL.len()];
        let damage = match generator.random_range(0..5) {
            _ if case == 0 => Damage::Cut,
            0 => Damage::Flipped(1),
            1 => Damage::Flipped(generator.random_range(2..=FLIPS_MAX)),
            2 => Damage::Cut,
            3 => Damage::Zeroed,
            _ => Damage::Missing,
        };
        let victim = case % cluster.nodes.len();
        let value = noise(&mut generator, VALUE_BYTES);
        revive(&mut cluster, usize::MAX).await;
        model.put(&cluster, &format!("k{}", case % KEYS), &value).await;
        cluster.nodes[victim].kill().await;
        let data = cluster.nodes[victim].data();
        let mut files = kind.files(&data);
        if matches!(kind, Kind::LogWriteAhead | Kind::LogManifest | Kind::StateManifest) {
            // The newest: others are left to be removed or used again.
            files = files.split_off(files.len().saturating_sub(1));
        }
        let Some(path) = files.choose(&mut generator).cloned() else {
            println!("case {case}: no {kind:?} at the moment");
            start_whole(&mut cluster, &model, victim).await;
            continue;
        };
        let copy = data.with_extension("copy");
        copy_directory(&data, &copy);
        let last = if kind == Kind::LogWriteAhead {
            value.as_slice()
        } else {
            &[]
        };
        let done = inflict(damage, &path, last, &mut generator);
        let shown = path
            .strip_prefix(&data)
            .expect("in the data directory")
            .display()
            .to_string();
        println!(
            "case {case}, seed {seed}, node {}: {shown}: {done}",
            cluster.nodes[victim].name
        );

        let outcome = start_damaged(&mut cluster, &model, victim, &shown).await;
        assert!(
            outcome == Outcome::Unharmed || outcome == kind.remedy(),
            "{shown}: {done}: {outcome:?}, and it should be {:?}:\n{}",
            kind.remedy(),
            last_words(&cluster.nodes[victim], 0)
        );
        if let Some(certain) = kind.certain(damage) {
            assert_eq!(outcome, certain, "{shown}: {done}");
        }
        if outcome == Outcome::Refused {
            // It has promised nothing since: its directory as it last was is whole.
            fs::remove_dir_all(&data).expect("removed");
            fs::rename(&copy, &data).expect("renamed");
            start_whole(&mut cluster, &model, victim).await;
        } else {
            fs::remove_dir_all(&copy).expect("removed");
        }
        println!("case {case}: {outcome:?}");
        *outcomes.entry((kind, outcome)).or_default() += 1;
    }
    for ((kind, outcome), cases) in &outcomes {
        println!("{kind:?}: {outcome:?} in {cases}");
    }
    revive(&mut cluster, usize::MAX).await;
    for node in &cluster.nodes {
        model.holds(&cluster.client, node).await;
    }
    cluster.holds_the_truth_of(&simulator, REGION).await;
}

/// A node whose log is whole, and its state but for damage of an earlier case: it must start, at the latest once it has found that.
async fn start_whole(cluster: &mut Cluster, model: &Model, position: usize) {
    for _ in 0..STARTS_MAX {
        let said_before = cluster.nodes[position].log().len();
        cluster.nodes[position].start();
        if served_whole(cluster, model, position).await {
            return;
        }
        cluster.nodes[position].ended_by_itself().await;
        ended_for_earlier_damage(&cluster.nodes[position], said_before);
    }
    panic!(
        "{STARTS_MAX} starts were not enough:\n{}",
        last_words(&cluster.nodes[position], 0)
    );
}

/// A node that has ended says that it must be started again.
fn ended_for_earlier_damage(node: &Node, said_before: usize) {
    let said = last_words(node, said_before);
    assert!(
        said.contains("Start this node again"),
        "it ended without saying what to do:\n{said}"
    );
    println!("node {} ended for earlier damage", node.name);
}

/// Starts a damaged node, as often as it says it should be started again, and compares everything it answers with the truth.
async fn start_damaged(cluster: &mut Cluster, model: &Model, position: usize, file: &str) -> Outcome {
    let mut outcome = Outcome::Unharmed;
    for _ in 0..STARTS_MAX {
        let said_before = cluster.nodes[position].log().len();
        cluster.nodes[position].start();
        let whole = served_whole(cluster, model, position).await;
        let said = last_words(&cluster.nodes[position], said_before);
        // One that was being built when the node was killed has nothing to do with it.
        let discards = |line: &str| {
            line.contains("removing what is not a whole snapshot") && !line.contains("it was never finished")
        };
        if said.contains("is put aside") || said.contains("is damaged and is discarded") || said.lines().any(discards) {
            outcome = Outcome::Rebuilt;
        }
        if whole {
            return outcome;
        }
        cluster.nodes[position].ended_by_itself().await;
        if said.contains("Start this node again") {
            outcome = Outcome::Rebuilt;
            continue;
        }
        assert!(
            said.contains("Stop it; ") || said.contains("stop this node; ") || said.contains("Stop this node; "),
            "{file}: it ended without saying what to do:\n{said}"
        );
        return Outcome::Refused;
    }
    panic!(
        "{file}: {STARTS_MAX} starts were not enough:\n{}",
        last_words(&cluster.nodes[position], 0)
    );
}

/// Damage of an earlier case that nothing had read may show itself now: a node ends for it, says so, and is started again. All but `except`.
async fn revive(cluster: &mut Cluster, except: usize) {
    for position in 0..cluster.nodes.len() {
        if position == except || !cluster.nodes[position].has_ended() {
            continue;
        }
        cluster.nodes[position].ended_by_itself().await;
        ended_for_earlier_damage(&cluster.nodes[position], 0);
        cluster.nodes[position].start();
        cluster.ready(position).await;
    }
}

/// Whether a node came so far as to hold all that was acknowledged, and answered every key and list with the truth; `false`: it ended.
async fn served_whole(cluster: &mut Cluster, model: &Model, position: usize) -> bool {
    let client = cluster.client.clone();
    let keys = model.keys();
    let began = Instant::now();
    let mut behind = true;
    while behind {
        if cluster.nodes[position].has_ended() {
            return false;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "not back:\n{}",
            last_words(&cluster.nodes[position], 0)
        );
        behind = false;
        for key in &keys {
            match model.read_stale(&client, &cluster.nodes[position], key).await {
                Ok(revision) => behind |= revision < model.revision,
                Err(_) => {
                    behind = true;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    break;
                }
            }
        }
    }
    revive(cluster, position).await;
    let other = (position + 1) % cluster.nodes.len();
    for list in ["instances", "tasks", "clusters"] {
        let mut truth = listed(cluster, other, list).await;
        if truth.is_none() {
            revive(cluster, position).await;
            truth = listed(cluster, other, list).await;
        }
        let found = listed(cluster, position, list).await;
        if found.is_none() && cluster.nodes[position].has_ended() {
            return false;
        }
        assert_eq!(found, truth, "{list} of {}", cluster.nodes[position].name);
    }
    !cluster.nodes[position].has_ended()
}

async fn listed(cluster: &Cluster, position: usize, list: &str) -> Option<Value> {
    let url = format!(
        "{}/v2/{list}?limit=500&consistency=stale",
        cluster.nodes[position].url()
    );
    Some(cluster.client.get_json(&url).await.ok()?["items"].take())
}

/// What a node wrote after its first `skip` bytes.
fn last_words(node: &Node, skip: usize) -> String {
    let log = node.log();
    let said = log.get(skip..).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// A copy of all files; what has two names keeps them.
fn copy_directory(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cp -a {} {}",
        from.display(),
        to.display()
    );
}
