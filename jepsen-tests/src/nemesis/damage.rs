//! Files of one node that rot while it does not run: bits flip, an end is missing, blocks are zero. Such a node refuses to start or rebuilds what is
//! damaged; it never answers from it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::act::Act;
use super::process::struck_dead;
use super::{Cluster, Effect, Nemesis, NemesisError, member};
use crate::command;
use crate::compose::Container;

/// Bits flipped in a file at most.
const BITS_MAX: u32 = 32;
/// Zeroed at once, bytes.
const BLOCK_BYTES: u64 = 4_096;
/// How often a damage is tried that leaves the file as it was: a block may be zero already.
const TRIES: usize = 8;
/// What a node says last when it refuses or ends.
const ENDS: &str = "the node ends";
/// What it says when it makes its whole state anew, and from whatever it does.
const REBUILDS: &str = "the state is damaged: it is put aside";
/// It did not start, and was replaced: so the record says it.
pub const REFUSES: &str = "it refuses";
/// It found the damage, and mended it by itself.
pub const REBUILT: &str = "it rebuilt its state and is ready again";
/// It went on without a word of a rebuilt state, and was replaced.
pub const READY: &str = "it is ready again";

/// A kind of file in a node's data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Whose log this is.
    Identity,
    /// How far the log was synced.
    DurableNote,
    /// The log's write-ahead log.
    LogAhead,
    /// The log's tables.
    LogTable,
    /// Which of them count.
    LogManifest,
    /// Which manifest counts.
    LogCurrent,
    /// The state's write-ahead log.
    StateAhead,
    /// The state's tables.
    StateTable,
    /// Which of them count.
    StateManifest,
    /// How long that one is.
    StateManifestNote,
    /// Which manifest counts.
    StateCurrent,
    /// Which directory counts.
    StatePointer,
    /// A snapshot's files.
    Snapshot,
}

impl FileKind {
    /// A node makes all of it anew by itself.
    fn is_of_state(self) -> bool {
        use FileKind::{StateAhead, StateCurrent, StateManifest, StateManifestNote, StatePointer, StateTable};
        matches!(
            self,
            StateAhead | StateTable | StateManifest | StateManifestNote | StateCurrent | StatePointer
        )
    }

    /// By its path below the data directory; `None`: one that means nothing.
    pub fn of(path: &str) -> Option<FileKind> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let (ahead, table) = (name.ends_with(".log"), name.ends_with(".sst"));
        let manifest = name.starts_with("MANIFEST-");
        match path.split('/').next()? {
            "identity.json" => Some(FileKind::Identity),
            "snapshots" => Some(FileKind::Snapshot),
            "raft" if path == "raft/durable" => Some(FileKind::DurableNote),
            "raft" if ahead => Some(FileKind::LogAhead),
            "raft" if table => Some(FileKind::LogTable),
            "raft" if manifest => Some(FileKind::LogManifest),
            "raft" if name == "CURRENT" => Some(FileKind::LogCurrent),
            "state" if path == "state/CURRENT" => Some(FileKind::StatePointer),
            "state" if ahead => Some(FileKind::StateAhead),
            "state" if table => Some(FileKind::StateTable),
            "state" if manifest => Some(FileKind::StateManifest),
            "state" if name == "NOTED-MANIFEST" => Some(FileKind::StateManifestNote),
            "state" if name == "CURRENT" => Some(FileKind::StateCurrent),
            _ => None,
        }
    }
}

/// One node is killed, a file of it damaged, and it is started again. It refuses, or serves as it is for a while: then it is replaced, unless it has
/// rebuilt what was damaged. What nobody has read yet would come up later, when the others may not be able to do without it.
pub(super) async fn damage(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    // One damaged node at a time: two could take more with them than a majority keeps.
    let _wound = cluster.wound.lock().await;
    let held = act.take().await;
    let position = held.positions[0];
    let name = cluster.name(position);
    let containers = cluster.running(&held.positions).await?;
    let container = &containers[0];
    act.begins(&[position]);
    let mut seen = struck_dead(cluster, &held.positions, &containers).await?;
    if seen.iter().any(Result::is_err) {
        act.mends();
        cluster.revive(position).await?;
        return Ok(Effect::of_all(seen));
    }
    let nemesis = act.fault.nemesis;
    let Some(damaged) = damage_a_file(cluster, position, nemesis, &mut act.random).await? else {
        act.mends();
        cluster.start(&held.positions).await?;
        return Ok(Effect::none("no file was other than before"));
    };
    let since = SystemTime::now();
    cluster.start(&held.positions).await?;
    let mut came = comes_back(cluster, position, container, since).await?;
    if came == Came::Ready {
        act.hold().await;
        // It may have read the damage meanwhile, and ended.
        came = comes_back(cluster, position, container, since).await?;
    }
    act.mends();
    let rebuilt = says(&log_since(cluster, container, since).await?, REBUILDS) > 0;
    let became = match came {
        Came::Ready if damaged.kind.is_of_state() && rebuilt => REBUILT.to_owned(),
        Came::Ready => {
            let replaced = member::replace(cluster, position, || {}).await?;
            format!("{READY}; {replaced}")
        }
        Came::Refused(why) => {
            let replaced = member::replace(cluster, position, || {}).await?;
            format!("{REFUSES} ({why}); {replaced}")
        }
    };
    seen.push(Ok(format!("{name}: {}; {became}", damaged.told)));
    Ok(Effect::of_all(seen))
}

/// What became of a node with a damaged file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    Ready,
    Refused(String),
}

/// In how many lines of a log these words stand.
fn says(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

/// Waits until the node is ready, or has refused to start; a node that ends once and then rebuilds is ready in the end.
async fn comes_back(
    cluster: &Cluster,
    position: usize,
    container: &Container,
    since: SystemTime,
) -> Result<Came, NemesisError> {
    let came = cluster.in_calm("a damaged node to refuse or to be ready", || async {
        if cluster.observer.ready(position).await.is_ok() {
            return Ok(Came::Ready);
        }
        let log = log_since(cluster, container, since).await;
        let log = log.map_err(|error| error.to_string())?;
        match log.lines().rfind(|line| line.contains(ENDS)) {
            Some(last) if says(&log, ENDS) >= REFUSALS => Ok(Came::Refused(told(last))),
            _ => Err("it does neither".to_owned()),
        }
    });
    Ok(came.await?)
}

/// So often a node must have ended to count as one that refuses: once it may end to rebuild itself with the next start.
const REFUSALS: usize = 3;
/// Characters of its reason that are told.
const REASON_MAX: usize = 240;

fn told(line: &str) -> String {
    let from = line.find(ENDS).unwrap_or(0);
    line[from..].chars().take(REASON_MAX).collect()
}

/// Why the node has ended since then, by its own word; nothing: it has said nothing.
pub(super) async fn ended_since(
    cluster: &Cluster,
    container: &Container,
    since: SystemTime,
) -> Result<Option<String>, NemesisError> {
    let log = log_since(cluster, container, since).await?;
    Ok(log.lines().find(|line| line.contains(ENDS)).map(told))
}

async fn log_since(cluster: &Cluster, container: &Container, since: SystemTime) -> Result<String, NemesisError> {
    let log = cluster.compose.logs_since(container, since).await?;
    Ok(String::from_utf8_lossy(&log).into_owned())
}

/// A file that is other than it was.
struct Damaged {
    kind: FileKind,
    told: String,
}

/// Damages one file of a node that does not run; what was done, `None`: nothing is other than before.
async fn damage_a_file(
    cluster: &Cluster,
    position: usize,
    nemesis: Nemesis,
    random: &mut ChaCha8Rng,
) -> Result<Option<Damaged>, NemesisError> {
    let listed = in_volume(
        cluster,
        position,
        "cd /data && find . -type f -size +0 -printf '%P\\t%s\\n'",
    )
    .await?;
    for _ in 0..TRIES {
        let Some((kind, path, size)) = draw_file(&listed, random) else {
            return Ok(None);
        };
        let Some((script, what)) = draw_damage(nemesis, &path, size, random) else {
            continue;
        };
        let checked = format!(
            "set -e\ncd /data\nbefore=$(cksum < '{path}')\n{script}\nafter=$(cksum < '{path}')\n[ \"$before\" != \"$after\" ] && echo other || echo same"
        );
        if in_volume(cluster, position, &checked).await?.trim() == "other" {
            let told = format!("{what} of {path} ({kind:?}, {size} bytes)");
            return Ok(Some(Damaged { kind, told }));
        }
    }
    Ok(None)
}

/// A kind among those that are there, then a file of it.
fn draw_file(listed: &str, random: &mut ChaCha8Rng) -> Option<(FileKind, String, u64)> {
    let mut files: BTreeMap<FileKind, Vec<(String, u64)>> = BTreeMap::new();
    for line in listed.lines() {
        let (path, size) = line.split_once('\t')?;
        if let Some(kind) = FileKind::of(path) {
            files
                .entry(kind)
                .or_default()
                .push((path.to_owned(), size.parse().ok()?));
        }
    }
    let kinds: Vec<&FileKind> = files.keys().collect();
    let kind = **kinds.choose(random)?;
    let (path, size) = files.get(&kind)?.choose(random)?.clone();
    Some((kind, path, size))
}

/// A script that damages a file, and what it does.
fn draw_damage(nemesis: Nemesis, path: &str, size: u64, random: &mut ChaCha8Rng) -> Option<(String, String)> {
    let mut script = String::new();
    match nemesis {
        Nemesis::BitFlip => {
            let bits = random.random_range(1..=BITS_MAX);
            for _ in 0..bits {
                let (at, bit) = (random.random_range(0..size), 1u8 << random.random_range(0..8));
                // Writing to a string cannot fail.
                let _ = writeln!(
                    script,
                    "byte=$(od -An -v -tu1 -j {at} -N 1 '{path}'); printf \"\\\\$(printf %03o $(( byte ^ {bit} )))\" | dd of='{path}' bs=1 seek={at} conv=notrunc status=none"
                );
            }
            Some((script, format!("{bits} bits flipped")))
        }
        Nemesis::Truncate => {
            let left = random.random_range(0..size);
            Some((
                format!("truncate -s {left} '{path}'"),
                format!("{} bytes cut off the end", size - left),
            ))
        }
        Nemesis::Zero => {
            let blocks = size.div_ceil(BLOCK_BYTES);
            let (block, count) = (random.random_range(0..blocks), random.random_range(1..=4));
            let from = block * BLOCK_BYTES;
            let length = (count * BLOCK_BYTES).min(size - from);
            let script = format!(
                "head -c {length} /dev/zero | dd of='{path}' bs={BLOCK_BYTES} seek={block} conv=notrunc status=none"
            );
            Some((script, format!("{length} bytes from {from} on zeroed")))
        }
        _ => None,
    }
}

/// Runs a script beside a node's volume, which is at `/data`; what it says.
async fn in_volume(cluster: &Cluster, position: usize, script: &str) -> Result<String, NemesisError> {
    let volumes = cluster.compose.volumes(cluster.name(position)).await?;
    let volume = volumes
        .first()
        .map_or_else(String::new, |volume| format!("{volume}:/data"));
    let label = cluster.compose.helper_label();
    let words = [
        "run",
        "--rm",
        "--label",
        &label,
        "--network",
        "none",
        "-v",
        &volume,
        "--entrypoint",
        "sh",
        &cluster.image,
        "-c",
        script,
    ];
    Ok(command::run("docker", &words, &[]).await?)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Every file that means something is of a kind, and those of no meaning of none.
    #[test]
    fn files_are_told_apart() {
        for (path, kind) in [
            ("identity.json", Some(FileKind::Identity)),
            ("raft/durable", Some(FileKind::DurableNote)),
            ("raft/db/000004.log", Some(FileKind::LogAhead)),
            ("raft/db/000009.sst", Some(FileKind::LogTable)),
            ("raft/db/MANIFEST-000005", Some(FileKind::LogManifest)),
            ("raft/db/CURRENT", Some(FileKind::LogCurrent)),
            ("state/CURRENT", Some(FileKind::StatePointer)),
            ("state/generation-0000000001/000008.log", Some(FileKind::StateAhead)),
            ("state/generation-0000000001/CURRENT", Some(FileKind::StateCurrent)),
            (
                "state/generation-0000000001/NOTED-MANIFEST",
                Some(FileKind::StateManifestNote),
            ),
            ("snapshots/7/000008.sst", Some(FileKind::Snapshot)),
            ("raft/db/LOG", None),
            ("raft/db/OPTIONS-000007", None),
            ("state/generation-0000000001/LOCK", None),
        ] {
            assert_eq!(FileKind::of(path), kind, "{path}");
        }
    }

    /// What a node makes anew by itself, and how often it says so; a log's files and a snapshot's it does not.
    #[test]
    fn rebuilt_states_are_told_apart() {
        let state = FileKind::of("state/generation-0000000001/000009.sst").expect("of a kind");
        let others = [
            "identity.json",
            "raft/durable",
            "raft/db/000009.sst",
            "snapshots/7/000008.sst",
        ];
        let others = others.map(|path| FileKind::of(path).expect("of a kind"));
        assert!(state.is_of_state() && others.iter().all(|kind| !kind.is_of_state()));
        let log = "t ERROR n blox: the node ends cause=x\nt ERROR n blox: the state is damaged: it is put aside until the next start, and rebuilt from the log\n\
            t WARN n blox: the state is rebuilt from this node's own snapshot\n";
        assert_eq!((says(log, ENDS), says(log, REBUILDS)), (1, 1));
    }

    /// Damage stays within the file and names it; every kind that is there can be drawn.
    #[test]
    fn damage_is_drawn_within_the_file() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let listed = "identity.json\t800\nraft/durable\t1024\nraft/db/LOG\t9\nstate/g/000008.log\t9000";
        let mut kinds = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let (kind, path, size) = draw_file(listed, &mut random).expect("there are files");
            kinds.insert(kind);
            for nemesis in [Nemesis::BitFlip, Nemesis::Truncate, Nemesis::Zero] {
                let (script, what) = draw_damage(nemesis, &path, size, &mut random).expect("a damage");
                assert!(script.contains(&path) && !what.is_empty(), "{script}");
            }
        }
        assert_eq!(kinds.len(), 3);
        assert_eq!(draw_file("raft/db/LOG\t9", &mut random), None);
    }
}
