//! Data directories and backups of every release, this one's among them: this build opens them, finds what was in them, and goes on.
//!
//! `make golden` adds this version's, once, when it is released: `golden/VERSION/` with `data.tar.gz` (identity, log, state, snapshots of a
//! cluster of one), `backup.blox` (the same state saved) and `expected.json` (what is in both).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::command::{blox, text};
use crate::content::content;
use crate::harness::{Client, Cluster, DEADLINE, Node, NodeOptions, Port, REGION, SimulatorProcess, eventually};

/// Addresses under which nobody is reached: a node alone needs no peer.
const PLACE: [(&str, &str); 2] = [
    ("BLOX_PEER_ADVERTISE", "golden.invalid:2010"),
    ("BLOX_HTTP_ADVERTISE", "golden.invalid:2000"),
];
const MEMBERS: &str = "initial_members = [{name=\"a\", peer_address=\"golden.invalid:2010\"}]";
/// So that a snapshot is there and the log begins behind the first entry.
const SNAPSHOTS: &str = "[snapshot]\nentries = 40\nkeep_entries = 10\n";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backup/golden")
}

fn node(place: &Path, sources: &str, environment: &[(String, String)]) -> Node {
    let environment: Vec<(String, String)> = PLACE
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .chain(environment.iter().cloned())
        .collect();
    let options = NodeOptions {
        members: MEMBERS,
        sources,
        environment: &environment,
        more: SNAPSHOTS,
    };
    Node::prepare("a", Port::take(), Port::take(), place, &options)
}

async fn ready(client: &Client, node: &Node) {
    let url = format!("{}/readyz", node.url());
    eventually("the node is ready", DEADLINE, || async {
        let answer = client.get(&url).await?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(format!("{}\n{}", answer.text(), node.words()))
        }
    })
    .await;
}

async fn put(client: &Client, node: &Node, key: &str, value: &Value) {
    let url = format!("{}/v2/kv/{key}", node.url());
    eventually("a write", DEADLINE, || async {
        let answer = client.put_json(&url, value).await?;
        if answer.is_success() {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
}

fn tar(arguments: &[&str]) {
    let status = Command::new("tar")
        .args(arguments)
        .status()
        .expect("tar is part of every system");
    assert!(status.success(), "tar {arguments:?}: {status}");
}

/// Writes this version's golden directory, where BLOX_BLESS_GOLDEN asks for it.
async fn bless() {
    let target = golden().join(env!("CARGO_PKG_VERSION"));
    assert!(
        !target.exists(),
        "{} exists: what was released stays as it is",
        target.display()
    );
    std::fs::create_dir_all(&target).expect("created");
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(1, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", 2).await;
    let definition = simulator.definition(REGION, "agent").await;
    let sources =
        "[[source]]\nname = \"main\"\nregion = \"us-east-1\"\nqueue = \"blox-events\"\nreconcile_pause = \"2s\"\n";
    let environment = [
        ("AWS_ENDPOINT_URL", simulator.url().as_str()),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let client = Client::new();
    let mut node = node(directory.path(), sources, &environment);
    node.start();
    ready(&client, &node).await;
    eventually("reconciled", DEADLINE, || async {
        let answer = client.get(&format!("{}/readyz?require=reconciled", node.url())).await?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
    let wanted = json!({"cluster": "alpha", "task_definition": definition, "max_unavailable": 1});
    let made = client
        .put_json(&format!("{}/v2/environments/agent", node.url()), &wanted)
        .await
        .expect("an answer");
    assert!(made.is_success(), "{}", made.text());
    eventually("every daemon runs", DEADLINE, || async {
        let environment = client
            .get_json(&format!("{}/v2/environments/agent", node.url()))
            .await?;
        let well = environment["summary"]["ready"] == 2 && environment["deployment"]["status"] == "completed";
        if well { Ok(()) } else { Err(environment.to_string()) }
    })
    .await;
    for key in 0..60 {
        put(
            &client,
            &node,
            &format!("golden/{}", key % 20),
            &json!({"written": key}),
        )
        .await;
    }
    simulator.wait_until_still().await;
    let backup = target.join("backup.blox");
    blox(&["snapshot", "save", text(&backup), "--endpoint", &node.url()], &[])
        .await
        .well();
    let expected = json!({
        "content": content(&client, &node.url()).await,
        "inspected": blox(&["snapshot", "inspect", text(&backup), "--output", "json"], &[]).await.well().json(),
    });
    node.stop().await;
    let (archive, place) = (target.join("data.tar.gz"), directory.path());
    let reproducible = [
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
        "--exclude=LOG*",
    ];
    tar(&[
        &["-czf", text(&archive), "-C", text(place)],
        reproducible.as_slice(),
        &["a"],
    ]
    .concat());
    let pretty = serde_json::to_string_pretty(&expected).expect("it is JSON") + "\n";
    std::fs::write(target.join("expected.json"), pretty).expect("written");
}

/// Proves that this build opens the data directory of every release, finds exactly what was in it, goes on writing and starts again with it;
/// and that it inspects and restores that release's backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_release_is_opened() {
    if std::env::var_os("BLOX_BLESS_GOLDEN").is_some() {
        bless().await;
    }
    let mut releases: Vec<PathBuf> = std::fs::read_dir(golden())
        .expect("there is one")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    releases.sort();
    assert!(!releases.is_empty());
    for release in releases {
        println!("{}", release.display());
        let expected = std::fs::read_to_string(release.join("expected.json")).expect("read");
        let expected: Value = serde_json::from_str(&expected).expect("JSON");
        let directory = Cluster::directory();
        tar(&["-xzf", text(&release.join("data.tar.gz")), "-C", text(directory.path())]);
        open(directory.path(), &expected).await;
        reopen_backup(&release.join("backup.blox"), &expected).await;
    }
}

async fn open(place: &Path, expected: &Value) {
    let client = Client::new();
    let mut node = node(place, "", &[]);
    node.start();
    ready(&client, &node).await;
    let found = Value::from(content(&client, &node.url()).await);
    assert_eq!(found, expected["content"]);
    by_status(&client, &node.url()).await;
    put(&client, &node, "after", &json!({"well": true})).await;
    node.stop().await;
    node.start();
    ready(&client, &node).await;
    let after = client
        .get_json(&format!("{}/v2/kv/after", node.url()))
        .await
        .expect("it is there");
    assert_eq!(after, json!({"well": true}));
    assert_eq!(
        content(&client, &node.url()).await.len(),
        expected["content"].as_array().expect("a list").len() + 1
    );
    node.stop().await;
}

async fn reopen_backup(backup: &Path, expected: &Value) {
    let inspected = blox(&["snapshot", "inspect", text(backup), "--output", "json"], &[])
        .await
        .well()
        .json();
    assert_eq!(inspected, expected["inspected"]);
    let directory = Cluster::directory();
    let data = directory.path().join("a");
    blox(
        &[
            "snapshot",
            "restore",
            text(backup),
            "--data-directory",
            text(&data),
            "--name",
            "a",
        ],
        &[],
    )
    .await
    .well();
    let client = Client::new();
    let mut node = node(directory.path(), "", &[]);
    node.start();
    ready(&client, &node).await;
    let found = Value::from(content(&client, &node.url()).await);
    assert_eq!(found, expected["content"]);
    by_status(&client, &node.url()).await;
    node.stop().await;
}

/// Lists by status come from an index that not every release has kept: they hold what is found without it.
async fn by_status(client: &Client, url: &str) {
    let list = |query: &'static str| async move {
        let url = format!("{url}/v2/tasks?limit=1000{query}");
        let list = client.get_json(&url).await.expect("it answers");
        list["items"].as_array().expect("a list").clone()
    };
    let mut running = list("").await;
    running.retain(|task| task["document"]["lastStatus"] == "RUNNING");
    assert!(!running.is_empty(), "it has tasks");
    assert_eq!(list("&status=running").await, running);
}
