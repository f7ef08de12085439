//! Watches the room on the disk of the data directory, so that writes are refused before it is full.
//!
//! What must fit below the reserve: what was accepted before the refusal and is on its way into log and state, and what both still hold in
//! memory, which a flush or a snapshot writes a second time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blox_raft::{Consensus, DiskRoom};
use blox_store::Store;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(150);
/// Once refused, writes go on when there is more room than they need by this part of it: a disk at the limit would change its mind with each
/// flush otherwise.
const RESUME_PART: u64 = 4;
/// How the operating system says that a disk is full, in the text of any storage error.
const NO_SPACE: &str = "No space left on device";

/// Looks until the node ends.
pub(super) async fn watch(directory: PathBuf, reserve_bytes: u64, store: Store, consensus: Consensus) {
    let mut refusing = false;
    let mut failed = false;
    loop {
        let asked = directory.clone();
        let free = tokio::task::spawn_blocking(move || free_bytes(&asked)).await;
        match free.map_err(io::Error::other).and_then(|free| free) {
            Ok(free_bytes) => {
                failed = false;
                let unflushed = store.unflushed_bytes() + consensus.unflushed_log_bytes();
                let room = weigh(free_bytes, reserve_bytes.max(unflushed), refusing);
                if room.refusing != refusing {
                    tell(&directory, room);
                }
                refusing = room.refusing;
                consensus.report_disk(room);
            }
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(directory = %directory.display(), %error, "cannot see how much room the disk has");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Bytes free for this process.
fn free_bytes(directory: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(directory)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

fn weigh(free_bytes: u64, needed_bytes: u64, refusing: bool) -> DiskRoom {
    let enough = if refusing {
        needed_bytes + needed_bytes / RESUME_PART
    } else {
        needed_bytes
    };
    DiskRoom {
        free_bytes,
        needed_bytes,
        refusing: free_bytes < enough,
    }
}

fn tell(directory: &Path, room: DiskRoom) {
    let DiskRoom {
        free_bytes,
        needed_bytes,
        refusing,
    } = room;
    let directory = directory.display();
    if refusing {
        tracing::warn!(%directory, free_bytes, needed_bytes, "the disk has too little room for writes: free space on it or enlarge it");
    } else {
        tracing::info!(%directory, free_bytes, needed_bytes, "the disk has room for writes again");
    }
}

/// What ended consensus, and what to do where that was a full disk.
pub(super) fn advised(reason: &str) -> String {
    if reason.contains(NO_SPACE) {
        format!(
            "{reason}. The disk is full: free space on it or enlarge it, then start this node again; nothing acknowledged is lost"
        )
    } else {
        reason.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once refused, writes need more room to go on than they needed to be refused.
    #[test]
    fn a_disk_at_the_limit_does_not_change_its_mind() {
        let refusing = |free, before| weigh(free, 100, before).refusing;
        assert!(!refusing(100, false));
        assert!(refusing(99, false));
        assert!(refusing(124, true));
        assert!(!refusing(125, true));
    }

    /// The file system is asked, and a full disk comes with what to do.
    #[test]
    fn the_file_system_says_what_is_free() {
        assert!(free_bytes(&std::env::temp_dir()).expect("it is there") > 0);
        assert!(advised("IO error: No space left on device: x.log").contains("start this node again"));
        assert_eq!(advised("it was shut down"), "it was shut down");
    }
}
