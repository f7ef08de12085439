//! What the machine allows at best, measured in the same run: a sync of the disk, a round trip over loopback, and both in the order in which any
//! replicated write needs them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load::{latencies, note};

/// Of what is written, bytes.
const ENTRY_BYTES: usize = 256;
/// Of a block of the disk, bytes.
const BLOCK_BYTES: usize = 4096;
/// A follower that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// Latencies of what cannot be done faster, microseconds.
#[derive(Clone, Debug)]
pub struct Floor {
    /// fdatasync after 256 bytes were appended to a growing file.
    pub sync_growing: Histogram<u64>,
    /// The same over blocks that were written before.
    pub sync_prewritten: Histogram<u64>,
    /// 256 bytes there and back over loopback.
    pub round_trip: Histogram<u64>,
    /// A write on the leader's disk, while one of two followers receives it, writes it to its own and says so; in growing files.
    pub commit: Histogram<u64>,
}

/// Measures each, so often; files are written below `directory`.
pub fn floor(directory: &Path, times: usize) -> io::Result<Floor> {
    Ok(Floor {
        sync_growing: syncs(&directory.join("growing"), times, 0)?,
        sync_prewritten: syncs(&directory.join("prewritten"), times, times * ENTRY_BYTES)?,
        round_trip: round_trips(times)?,
        commit: commits(directory, times)?,
    })
}

/// Appends entries, or writes over `prewritten` bytes, with a sync after each.
fn syncs(path: &Path, times: usize, prewritten: usize) -> io::Result<Histogram<u64>> {
    let file = create(path)?;
    let zeros = vec![0; prewritten.next_multiple_of(BLOCK_BYTES)];
    file.write_all_at(&zeros, 0)?;
    file.sync_all()?;
    let mut latencies = latencies();
    for number in 0..times {
        let began = Instant::now();
        file.write_all_at(&[1; ENTRY_BYTES], (number * ENTRY_BYTES) as u64)?;
        file.sync_data()?;
        note(&mut latencies, began.elapsed());
    }
    Ok(latencies)
}

fn round_trips(times: usize) -> io::Result<Histogram<u64>> {
    let (mut near, mut far) = pair()?;
    let echo = thread::spawn(move || -> io::Result<()> {
        let mut entry = [0; ENTRY_BYTES];
        for _ in 0..times {
            far.read_exact(&mut entry)?;
            far.write_all(&entry)?;
        }
        Ok(())
    });
    let mut latencies = latencies();
    let mut entry = [1; ENTRY_BYTES];
    for _ in 0..times {
        let began = Instant::now();
        near.write_all(&entry)?;
        near.read_exact(&mut entry)?;
        note(&mut latencies, began.elapsed());
    }
    joined(echo)?;
    Ok(latencies)
}

/// As a leader with two followers must: its own sync runs beside the round trip, and the first follower's word is enough.
fn commits(directory: &Path, times: usize) -> io::Result<Histogram<u64>> {
    let (acknowledge, acknowledged) = mpsc::channel();
    let mut followers = Vec::new();
    let mut threads = Vec::new();
    for number in 1..=2 {
        let (near, far) = pair()?;
        let file = create(&directory.join(format!("follower-{number}")))?;
        threads.push(thread::spawn(move || follow(far, &file, times)));
        let (mut answers, acknowledge) = (near.try_clone()?, acknowledge.clone());
        threads.push(thread::spawn(move || {
            let mut answer = [0; 8];
            for _ in 0..times {
                answers.read_exact(&mut answer)?;
                // The leader has gone on where nobody listens: it has failed, and says why.
                let _ = acknowledge.send(u64::from_be_bytes(answer));
            }
            Ok(())
        }));
        followers.push(near);
    }
    drop(acknowledge);
    let file = create(&directory.join("leader"))?;
    let mut latencies = latencies();
    let mut entry = [1; ENTRY_BYTES];
    for number in 0..times as u64 {
        let began = Instant::now();
        entry[..8].copy_from_slice(&number.to_be_bytes());
        for follower in &mut followers {
            follower.write_all(&entry)?;
        }
        file.write_all_at(&entry, number * ENTRY_BYTES as u64)?;
        file.sync_data()?;
        // The slower follower's words of earlier entries come in between.
        while acknowledged.recv_timeout(SILENCE).map_err(io::Error::other)? != number {}
        note(&mut latencies, began.elapsed());
    }
    threads.into_iter().try_for_each(joined)?;
    Ok(latencies)
}

fn follow(mut leader: TcpStream, file: &File, times: usize) -> io::Result<()> {
    let mut entry = [0; ENTRY_BYTES];
    for number in 0..times {
        leader.read_exact(&mut entry)?;
        file.write_all_at(&entry, (number * ENTRY_BYTES) as u64)?;
        file.sync_data()?;
        leader.write_all(&entry[..8])?;
    }
    Ok(())
}

/// Two ends of a connection over loopback.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(SILENCE))?;
    }
    Ok((near, far))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).open(path)
}

fn joined(thread: thread::JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is measured as often as asked.
    #[test]
    fn everything_is_measured() {
        let directory = tempfile::tempdir().expect("a directory");
        let floor = floor(directory.path(), 50).expect("a disk and loopback");
        for latencies in [
            &floor.sync_growing,
            &floor.sync_prewritten,
            &floor.round_trip,
            &floor.commit,
        ] {
            assert_eq!(latencies.len(), 50);
        }
        assert!(floor.commit.min() >= 1);
        let written = std::fs::metadata(directory.path().join("follower-2")).expect("written");
        assert_eq!(written.len(), 50 * ENTRY_BYTES as u64);
    }
}
