//! A restore that ends in the middle, and files that are no whole backups.

use std::path::{Path, PathBuf};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::command::{blox, text};
use crate::harness::{Client, DEADLINE, Node, NodeOptions, Port, count, eventually, seeded};

/// Every place a restore can end at, in order, and whether somebody lives in the directory from there on.
const POINTS: [(&str, bool); 4] = [
    ("raft::restore-unpacked", false),
    ("raft::restore-rebuilt", false),
    ("raft::restore-state-moved", false),
    ("raft::restore-done", true),
];

/// A cluster of one, with some keys, saved.
struct Saved {
    place: PathBuf,
    file: PathBuf,
    node: Node,
    client: Client,
}

async fn saved(place: &Path) -> Saved {
    let (http, peer) = (Port::take(), Port::take());
    let members = format!("initial_members = [{{name=\"a\", peer_address={:?}}}]", peer.address());
    let options = NodeOptions {
        members: &members,
        sources: "",
        environment: &[],
        more: "",
    };
    let mut node = Node::prepare("a", http, peer, place, &options);
    let client = Client::new();
    node.start();
    for key in 0..30 {
        put(&client, &node, &format!("key-{key}")).await;
    }
    let file = place.join("saved.blox");
    blox(&["snapshot", "save", text(&file), "--endpoint", &node.url()], &[])
        .await
        .well();
    Saved {
        place: place.to_owned(),
        file,
        node,
        client,
    }
}

async fn put(client: &Client, node: &Node, key: &str) {
    let url = format!("{}/v2/kv/{key}", node.url());
    eventually("a write", DEADLINE, || async {
        let answer = client.put_json(&url, &json!({"key": key})).await?;
        if answer.is_success() {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
}

impl Saved {
    async fn restore(&self, directory: &Path, failpoints: &str) -> crate::command::Said {
        let arguments = [
            "snapshot",
            "restore",
            text(&self.file),
            "--data-directory",
            text(directory),
            "--name",
            "a",
        ];
        blox(&arguments, &[("FAILPOINTS", failpoints)]).await
    }

    /// Lets the node live in another directory from its next start on.
    fn move_to(&self, directory: &Path) {
        let file = self.place.join("a.toml");
        let config = std::fs::read_to_string(&file).expect("read");
        let line = config
            .lines()
            .find(|line| line.starts_with("data_directory"))
            .expect("it has one");
        let new = config.replace(line, &format!("data_directory = {directory:?}"));
        std::fs::write(file, new).expect("written");
    }
}

/// Proves that a restore that ends anywhere leaves either nothing that a node would start with, and can be said again, or a finished directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_ends_anywhere_can_be_said_again() {
    let directory = crate::harness::Cluster::directory();
    let mut saved = saved(directory.path()).await;
    saved.node.stop().await;
    for (point, lives) in POINTS {
        let data = directory.path().join(point.replace("::", "-"));
        let ended = saved.restore(&data, &format!("{point}=panic")).await;
        assert!(!ended.success, "{point} was not reached: {}", ended.all());
        saved.move_to(&data);
        if lives {
            let again = saved.restore(&data, "").await.refused();
            assert!(again.contains("restore into an empty directory"), "{again}");
        } else {
            saved.node.start();
            saved.node.ended_by_itself().await;
            let words = saved.node.words();
            assert!(
                words.contains("half restored from a backup: say `blox snapshot restore` once more"),
                "{point}: {words}"
            );
            saved.restore(&data, "").await.well();
        }
        assert!(!data.join("restoring/unpacked").exists(), "{point}");
        saved.node.start();
        put(&saved.client, &saved.node, "after").await;
        let url = format!("{}/v2/kv?limit=100", saved.node.url());
        let keys = saved.client.get_json(&url).await.expect("a list");
        assert_eq!(keys["items"].as_array().map(Vec::len), Some(31), "{point}: {keys}");
        saved.node.stop().await;
    }
}

/// Proves that a file that was cut or flipped anywhere is refused by inspect and by restore, that both say where, and that the directory stays
/// as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_refused() {
    let (_, mut random) = seeded();
    let directory = crate::harness::Cluster::directory();
    let mut saved = saved(directory.path()).await;
    saved.node.stop().await;
    let whole = std::fs::read(&saved.file).expect("read");
    let data = directory.path().join("restored");
    for round in 0..count(6, 60) {
        let (bytes, what) = damage(&whole, round, &mut random);
        std::fs::write(&saved.file, bytes).expect("written");
        let inspected = blox(&["snapshot", "inspect", text(&saved.file)], &[]).await.refused();
        let restored = saved.restore(&data, "").await.refused();
        for said in [inspected, restored] {
            let where_ = said.contains("at byte ") && said.contains("take another copy");
            assert!(where_ || said.contains("is no backup of Blox"), "{what}: {said}");
        }
        let left: Vec<_> = std::fs::read_dir(&data).expect("it was created").collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    }
    std::fs::write(&saved.file, whole).expect("written");
    saved.restore(&data, "").await.well();
}

/// Cut, or with some bits flipped.
fn damage(whole: &[u8], round: usize, random: &mut ChaCha8Rng) -> (Vec<u8>, String) {
    let mut bytes = whole.to_vec();
    if round.is_multiple_of(2) {
        let length = random.random_range(9..whole.len());
        bytes.truncate(length);
        return (bytes, format!("cut at {length} of {}", whole.len()));
    }
    let flips = random.random_range(1..=20);
    for _ in 0..flips {
        let place = random.random_range(9..whole.len());
        bytes[place] ^= 1 << random.random_range(0..8);
    }
    (bytes, format!("{flips} bits flipped"))
}
