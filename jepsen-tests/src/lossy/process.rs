//! The process that serves one disk. It ends, and unmounts, at SIGTERM and when its standard input ends: with the life of whoever started it.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::mount::{MntFlags, umount2};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::control::obey;
use super::disk::{Disk, Durability};
use super::fuse;

/// Said in a line of its own once the disk is mounted and listens.
pub const MOUNTED: &str = "mounted";
/// An order may be so long, bytes.
const ORDER_BYTES_MAX: u64 = 64 << 10;

/// The disk cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its files cannot be made.
    #[error("cannot make a disk in {path}: {source}")]
    NotMade {
        /// The backing folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be mounted: there is no `/dev/fuse`, or it needs root.
    #[error("cannot mount a disk at {path}: {source}")]
    NotMounted {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody could tell it anything.
    #[error("cannot listen at {path}: {source}")]
    NotListening {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No signals, threads or standard output.
    #[error("this process cannot serve: {0}")]
    Process(#[source] io::Error),
    /// The kernel ended it, or somebody unmounted it.
    #[error("the disk at {path} is served no more: {why}")]
    Ended {
        /// Where it was.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Serves a disk until it is told to end.
pub async fn serve(backing: &Path, mount: &Path, control: &Path, durability: Durability) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Process)?;
    // Ctrl-C is for whoever started it, and reaches it with the end of its input.
    let _interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Process)?;
    let disk = Disk::make(backing, durability).map_err(|source| ServeError::NotMade {
        path: backing.to_owned(),
        source,
    })?;
    let disk = Arc::new(Mutex::new(disk));
    let listener = UnixListener::bind(control).map_err(|source| ServeError::NotListening {
        path: control.to_owned(),
        source,
    })?;
    let session = fuse::mount(Arc::clone(&disk), mount).map_err(|source| ServeError::NotMounted {
        path: mount.to_owned(),
        source,
    })?;
    let session_ends = in_a_thread(move || session.join()).map_err(ServeError::Process)?;
    let input_ends = in_a_thread(|| io::stdin().read_to_end(&mut Vec::new())).map_err(ServeError::Process)?;
    say(MOUNTED).map_err(ServeError::Process)?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = input_ends => Ok(()),
        ended = session_ends => Err(ServeError::Ended {
            path: mount.to_owned(),
            why: match ended {
                Ok(Err(error)) => error.to_string(),
                _ => "it was unmounted".to_owned(),
            },
        }),
        never = listen(&listener, &disk) => match never {},
    };
    // Whoever has it open still gets errors as soon as this process is gone.
    let _ = umount2(mount, MntFlags::MNT_DETACH);
    let _ = std::fs::remove_file(control);
    ended
}

/// The end of something that blocks, in a thread that nobody waits for.
fn in_a_thread<T: Send + 'static>(blocks: impl FnOnce() -> T + Send + 'static) -> io::Result<oneshot::Receiver<T>> {
    let (ended, ends) = oneshot::channel();
    std::thread::Builder::new().spawn(move || ended.send(blocks()))?;
    Ok(ends)
}

fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{line}")?;
    output.flush()
}

async fn listen(listener: &UnixListener, disk: &Arc<Mutex<Disk>>) -> std::convert::Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, Arc::clone(disk)));
            }
            Err(error) => {
                eprintln!("lossy-disk: cannot accept: {error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Orders of one connection, one after the other.
async fn answer(stream: UnixStream, disk: Arc<Mutex<Disk>>) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = String::new();
        if (&mut reading).take(ORDER_BYTES_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = obey(&disk, line.trim());
        writing.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}
