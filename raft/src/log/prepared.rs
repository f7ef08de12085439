//! Write-ahead logs that are as long as they will be before they are needed.
//!
//! The sync of a file that grows writes its new length as well, a second write to the disk that whoever put waits for. RocksDB overwrites finished
//! write-ahead logs, whose length stays, but a process begins with new ones, and a log that is written to little keeps them for hours. So it
//! begins by filling and finishing as many as take turns, beside the log thread and in steps that its syncs hardly notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::database::{DB, Error, WriteBatch, WriteOptions};

/// The one that is written to, and the one that is next.
pub(super) const FILES: usize = 2;
/// Written at once: a page. The system keeps what is written in larger pieces in larger pages, and counts each as written whole with every sync.
const STEP_BYTES: usize = 4 << 10;
/// Steps that are synced together: so few that another sync hardly notices.
const STEPS_A_SYNC: usize = 32;
/// Deleted where it never was, so that there is something to flush: only then is a file finished.
const NO_KEY: &[u8] = b"m/nothing";

/// Makes write-ahead logs ready, once.
pub(super) struct Prepared {
    stop: Arc<AtomicBool>,
    running: Option<JoinHandle<()>>,
}

impl Prepared {
    /// Begins; `file_bytes`: what a write-ahead log holds when it is finished.
    pub(super) fn begin(db: Arc<DB>, file_bytes: usize) -> Prepared {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let prepare = move || {
            if let Err(error) = prepare(&db, file_bytes, &stopped) {
                // The log thread meets it as well, if it matters.
                tracing::warn!(%error, "write-ahead logs are not made ready: syncs take longer until the first are finished");
            }
        };
        let started = std::thread::Builder::new()
            .name("blox-raft-ready".to_owned())
            .spawn(prepare);
        Prepared {
            stop,
            running: started.ok(),
        }
    }

    /// Ends what runs.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.running.take().is_some_and(|running| running.join().is_err()) {
            tracing::error!("the thread that makes write-ahead logs ready panicked");
        }
    }
}

fn prepare(db: &DB, file_bytes: usize, stop: &AtomicBool) -> Result<(), Error> {
    let filler = vec![0; STEP_BYTES];
    let unsynced = WriteOptions::default();
    for _ in 0..FILES {
        for step_number in 0..file_bytes / STEP_BYTES {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let mut step = WriteBatch::default();
            // Stands in the write-ahead log only.
            step.put_log_data(&filler);
            db.write_opt(step, &unsynced)?;
            if step_number % STEPS_A_SYNC == 0 {
                db.flush_wal(true)?;
            }
        }
        db.delete(NO_KEY)?;
        db.flush()?;
    }
    Ok(())
}
