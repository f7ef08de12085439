//! `blox snapshot save`: what a node sends goes to `FILE.part`, is checked there, and only then gets its name.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use blox_store::backup::{self, BackupSummary};

use super::ConsistencyName;
use super::progress::Progress;
use crate::cli::run_to_end;

/// How long a node may take to be reached.
const CONNECT_SECONDS_MAX: u64 = 5;
/// How long a node may send nothing: it takes a checkpoint before the first byte.
const SILENCE_SECONDS_MAX: u64 = 60;

/// Saves the state of the first of these nodes that answers.
pub fn run(file: &Path, endpoints: &[String], consistency: ConsistencyName) -> anyhow::Result<()> {
    refuse_existing(file)?;
    let part = part_of(file);
    let received = run_to_end(receive(&part, endpoints, consistency));
    let summary = received.and_then(|()| {
        // Read back: what is on this disk is what counts.
        let summary = backup::verify(&part, |_| {})?;
        keep(&part, file)?;
        Ok(summary)
    });
    if summary.is_err() {
        // It may not even exist.
        drop(std::fs::remove_file(&part));
    }
    say(file, &summary?);
    Ok(())
}

fn part_of(file: &Path) -> PathBuf {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

fn refuse_existing(file: &Path) -> anyhow::Result<()> {
    ensure!(
        !file.exists(),
        "{} exists already: give another name, or move it away",
        file.display()
    );
    Ok(())
}

/// Asks one node after another; only one that cannot be reached, or refuses, is followed by the next.
async fn receive(part: &Path, endpoints: &[String], consistency: ConsistencyName) -> anyhow::Result<()> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .read_timeout(Duration::from_secs(SILENCE_SECONDS_MAX))
        .build()?;
    let consistency = match consistency {
        ConsistencyName::Linearizable => "linearizable",
        ConsistencyName::Stale => "stale",
    };
    for endpoint in endpoints {
        let url = format!(
            "{}/v2/snapshot?consistency={consistency}",
            endpoint.trim_end_matches('/')
        );
        match client.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => {
                return write(part, answer)
                    .await
                    .with_context(|| format!("the snapshot of {endpoint} broke off"));
            }
            Ok(answer) => {
                let status = answer.status();
                let body = answer.text().await.unwrap_or_default();
                eprintln!("blox: {endpoint} answers {status}: {}", body.trim());
            }
            Err(error) => eprintln!("blox: no answer from {endpoint}: {error}"),
        }
    }
    bail!("no node gave a snapshot; asked were {}", endpoints.join(", "))
}

async fn write(part: &Path, mut answer: reqwest::Response) -> anyhow::Result<()> {
    let file = File::create(part).with_context(|| format!("cannot create {}", part.display()))?;
    let mut output = BufWriter::new(file);
    let mut progress = Progress::new("saved", answer.content_length());
    let mut bytes = 0;
    while let Some(piece) = answer.chunk().await? {
        output
            .write_all(&piece)
            .with_context(|| format!("cannot write {}", part.display()))?;
        bytes += piece.len() as u64;
        progress.at(bytes);
    }
    progress.done();
    let file = output.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()
        .with_context(|| format!("cannot sync {}", part.display()))
}

/// Gives the checked file its name, durably.
fn keep(part: &Path, file: &Path) -> anyhow::Result<()> {
    refuse_existing(file)?;
    std::fs::rename(part, file).with_context(|| format!("cannot rename {} to {}", part.display(), file.display()))?;
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot sync {}", directory.display()))
}

fn say(file: &Path, summary: &BackupSummary) {
    println!(
        "{}: revision {} of cluster {}, from node {}, {} bytes, hash {:032x}",
        file.display(),
        summary.revision,
        summary.cluster_id,
        summary.node,
        summary.bytes,
        summary.hash
    );
}
