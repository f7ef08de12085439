//! Snapshots between nodes: a checkpoint's files, one after another, in chunks; never in memory whole. Files are read and written on
//! blocking threads, a few chunks ahead.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blox_runtime::watch;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::Snapshot;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::server::fatal;
use crate::codec;
use crate::engine::Engine;
use crate::files;
use crate::machine::{Incoming, ManifestError, SnapshotDirectory, Snapshots, snapshot_meta};
use crate::proto::snapshot_frame::Frame;
use crate::proto::{self, SnapshotFrame, SnapshotManifest};
use crate::types::{SnapshotMeta, Vote};

const CHUNK_BYTES: usize = 1 << 20;
/// Chunks read ahead of the network, or received ahead of the disk. In a simulation, where nothing may block, all of them.
const CHUNKS_AHEAD: usize = if cfg!(feature = "simulation") { 4096 } else { 4 };
/// A peer that sends or takes no frame for this long is given up.
const FRAME_DEADLINE: Duration = Duration::from_secs(30);

/// Watches frames leave.
pub(super) struct Pace(watch::Receiver<u64>);

impl Pace {
    /// Resolves when the receiver has taken no frame for [`FRAME_DEADLINE`]. Once it has taken the last one it installs, which is not for
    /// this to bound: then this never resolves.
    pub(super) async fn stalled(mut self) {
        loop {
            match blox_runtime::time::timeout(FRAME_DEADLINE, self.0.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return,
            }
        }
    }
}

/// Tells `Pace` of every item, and by its own end that there are no more.
fn paced<T>(items: impl Stream<Item = T>) -> (impl Stream<Item = T>, Pace) {
    let (moved, pace) = watch::channel(0);
    let items = items.inspect(move |_| moved.send_modify(|count| *count += 1));
    (items, Pace(pace))
}

/// The frames of a snapshot, and whether they move. A read error ends the stream before its last frame, which the receiver refuses.
pub(super) fn frames(
    vote: Vote,
    snapshot: Arc<SnapshotDirectory>,
    snapshots: Arc<Snapshots>,
) -> (impl Stream<Item = SnapshotFrame> + Send + 'static, Pace) {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    blox_runtime::spawn_blocking(move || {
        if let Err(error) = send_files(&vote, &snapshot, &snapshots, &sender) {
            tracing::warn!(%error, "a snapshot was not sent whole");
        }
    });
    paced(ReceiverStream::new(receiver))
}

fn send_files(
    vote: &Vote,
    snapshot: &SnapshotDirectory,
    snapshots: &Snapshots,
    sender: &mpsc::Sender<SnapshotFrame>,
) -> io::Result<()> {
    let send = |frame: Frame| {
        sender
            .blocking_send(SnapshotFrame { frame: Some(frame) })
            .map_err(|_| io::Error::other("the receiver takes no more"))
    };
    send(Frame::Header(proto::SnapshotHeader {
        vote: Some(codec::vote_to_proto(vote)),
        manifest: Some(snapshot.manifest().clone()),
    }))?;
    let mut files = 0;
    for item in fs::read_dir(snapshot.state_path())? {
        let item = item?;
        let name = item.file_name().to_string_lossy().into_owned();
        let mut file = File::open(item.path())?;
        send(Frame::FileStart(proto::FileStart {
            name,
            bytes: file.metadata()?.len(),
        }))?;
        let mut hasher = crc32fast::Hasher::new();
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = Read::by_ref(&mut file)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk)?;
            if read == 0 {
                break;
            }
            hasher.update(&chunk);
            snapshots.counters.bytes_sent.fetch_add(read as u64, Ordering::Relaxed);
            send(Frame::Chunk(Bytes::from(chunk)))?;
            fail::fail_point!("raft::sending-snapshot");
        }
        send(Frame::FileEnd(proto::FileEnd {
            crc32: hasher.finalize(),
        }))?;
        files += 1;
    }
    send(Frame::Done(proto::SnapshotDone { files }))
}

/// Receives a snapshot and has it installed.
pub(super) async fn receive(
    engine: &Engine,
    inbound: tonic::Streaming<SnapshotFrame>,
) -> Result<proto::SnapshotReply, Status> {
    let (vote, meta, snapshot) = take(&engine.snapshots, inbound).await?;
    let answer = engine
        .raft
        .install_full_snapshot(vote, Snapshot { meta, snapshot })
        .await
        .map_err(|error| fatal(&error))?;
    Ok(proto::SnapshotReply {
        vote: Some(codec::vote_to_proto(&answer.vote)),
    })
}

/// Receives a snapshot: whole, synced, read through once and found undamaged.
pub(super) async fn take(
    snapshots: &Arc<Snapshots>,
    mut inbound: tonic::Streaming<SnapshotFrame>,
) -> Result<(Vote, SnapshotMeta, Arc<SnapshotDirectory>), Status> {
    let Some(Frame::Header(header)) = next(&mut inbound).await? else {
        return Err(Status::invalid_argument("a snapshot begins with its header"));
    };
    let vote =
        codec::required_vote(header.vote.as_ref()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let manifest = header
        .manifest
        .ok_or_else(|| Status::invalid_argument("the manifest is missing"))?;
    snapshots.check(&manifest).map_err(|error| refused(&error))?;
    let meta = snapshot_meta(&manifest).map_err(|error| Status::invalid_argument(error.to_string()))?;

    let (sender, frames) = mpsc::channel(CHUNKS_AHEAD);
    let snapshots = snapshots.clone();
    let write = move || write_files(&snapshots, manifest, frames);
    #[cfg(not(feature = "simulation"))]
    let writing = blox_runtime::spawn_blocking(write);
    while let Some(frame) = next(&mut inbound).await? {
        if sender.send(frame).await.is_err() {
            // The writer has ended, well or not: it says which.
            break;
        }
    }
    drop(sender);
    #[cfg(feature = "simulation")]
    let writing = blox_runtime::spawn_blocking(write);
    let snapshot = writing
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| refused(&error))?;
    Ok((vote, meta, snapshot))
}

fn refused(error: &ManifestError) -> Status {
    tracing::warn!(%error, "refused a snapshot");
    Status::failed_precondition(format!("the snapshot cannot be used: {error}"))
}

async fn next(inbound: &mut tonic::Streaming<SnapshotFrame>) -> Result<Option<Frame>, Status> {
    match blox_runtime::time::timeout(FRAME_DEADLINE, inbound.message()).await {
        Ok(message) => Ok(message?.and_then(|message| message.frame)),
        Err(_) => Err(Status::deadline_exceeded("the snapshot's sender is silent")),
    }
}

fn write_files(
    snapshots: &Snapshots,
    manifest: SnapshotManifest,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<Arc<SnapshotDirectory>, ManifestError> {
    let incoming: Incoming = snapshots.receive()?;
    let state = incoming.state_path();
    let mut files = 0;
    loop {
        match frames.blocking_recv() {
            Some(Frame::FileStart(start)) => {
                write_file(&state, &start, &mut frames, snapshots)?;
                files += 1;
            }
            Some(Frame::Done(done)) if done.files == files => break,
            Some(_) => return Err(io::Error::other("its frames are out of order").into()),
            None => return Err(io::Error::other("it ended before its last frame").into()),
        }
    }
    incoming.finish(manifest)
}

fn write_file(
    directory: &Path,
    start: &proto::FileStart,
    frames: &mut mpsc::Receiver<Frame>,
    snapshots: &Snapshots,
) -> io::Result<()> {
    if !is_plain_name(&start.name) {
        return Err(io::Error::other(format!(
            "`{}` is not the name of a checkpoint's file",
            start.name
        )));
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .open(directory.join(&start.name))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut written = 0;
    loop {
        match frames.blocking_recv() {
            Some(Frame::Chunk(chunk)) => {
                hasher.update(&chunk);
                written += chunk.len() as u64;
                snapshots
                    .counters
                    .bytes_received
                    .fetch_add(chunk.len() as u64, Ordering::Relaxed);
                file.write_all(&chunk)?;
                fail::fail_point!("raft::receiving-snapshot");
            }
            Some(Frame::FileEnd(end)) => {
                if written != start.bytes || hasher.finalize() != end.crc32 {
                    return Err(io::Error::other(format!("{} was damaged on its way", start.name)));
                }
                return file
                    .sync_all()
                    .map_err(files::failed("sync", &directory.join(&start.name)));
            }
            _ => return Err(io::Error::other(format!("{} ended early", start.name))),
        }
    }
}

/// A checkpoint is flat; nothing of it may point elsewhere.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tokio::time::Instant;

    use super::*;

    /// A transfer may take as long as it moves; one that does not is given up, and one that is through is not.
    #[tokio::test(start_paused = true)]
    async fn only_a_transfer_that_does_not_move_is_given_up() {
        const FRAMES: u32 = 100;
        let began = Instant::now();
        let (frames, pace) = paced(stream::iter(0..FRAMES));
        let mut frames = Box::pin(frames);
        let sending = async {
            for _ in 0..FRAMES / 2 {
                tokio::time::sleep(FRAME_DEADLINE * 9 / 10).await;
                frames.next().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sending => unreachable!("it stalls"),
            () = pace.stalled() => {}
        }
        assert_eq!(began.elapsed(), FRAME_DEADLINE * 9 / 10 * (FRAMES / 2) + FRAME_DEADLINE);

        let (frames, pace) = paced(stream::iter(0..FRAMES));
        assert_eq!(frames.count().await, FRAMES as usize);
        let installing = tokio::time::timeout(FRAME_DEADLINE * 10, pace.stalled());
        assert!(installing.await.is_err());
    }

    /// A peer cannot write outside the directory a snapshot is received into.
    #[test]
    fn only_plain_names_are_written() {
        assert!(
            ["CURRENT", "000012.sst", "MANIFEST-000005", "OPTIONS-000007"]
                .into_iter()
                .all(is_plain_name)
        );
        assert!(
            !["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\0b"]
                .into_iter()
                .any(is_plain_name)
        );
    }
}
