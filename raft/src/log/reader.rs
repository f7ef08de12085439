//! Reading the log: from memory where it can, from disk on a blocking thread where it must.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use futures::stream;
use openraft::OptionalSend;
use openraft::storage::RaftLogReader;

use super::shared::LogShared;
use crate::types::{Entry, TypeConfig, Vote};

/// One append request carries about this many bytes of entries; one entry at least.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// Reads entries and the vote.
#[derive(Clone)]
pub(crate) struct LogReader {
    shared: Arc<LogShared>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<LogShared>) -> LogReader {
        LogReader { shared }
    }

    async fn read(&self, wanted: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let on_disk = {
            let tail = self.shared.tail.lock();
            let found = tail.find(wanted.clone(), bytes_max);
            if found.on_disk.is_empty() {
                return Ok(found.in_memory);
            }
            self.shared.clone()
        };
        blox_runtime::spawn_blocking(move || on_disk.read(wanted, bytes_max))
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }
}

fn to_range<R: RangeBounds<u64>>(range: &R) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(to_range(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.read(start..end, APPEND_BYTES_MAX).await?;
        // They are sent as what follows the entry before `start`: entries that do not begin there would be appended in its place. None at
        // all is no error: openraft purges nothing that a leader's streams need, but a stream of a leader that was may wake up late and ask
        // for what its follower's log has purged or truncated since; it then sees that it is over.
        let begins_there = entries.first().is_some_and(|first| first.log_id.index == start);
        Ok(if begins_there { entries } else { Vec::new() })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.tail.lock().vote())
    }

    /// What apply reads: in pieces, so that a long catch-up never stands in memory whole.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        struct Walk {
            reader: LogReader,
            rest: Range<u64>,
            piece: std::vec::IntoIter<Entry>,
        }
        let walk = Walk {
            reader: self.clone(),
            rest: to_range(&range),
            piece: Vec::new().into_iter(),
        };
        stream::try_unfold(walk, |mut walk| async move {
            loop {
                if let Some(entry) = walk.piece.next() {
                    walk.rest.start = entry.log_id.index + 1;
                    return Ok(Some((entry, walk)));
                }
                if walk.rest.is_empty() {
                    return Ok(None);
                }
                let piece = walk.reader.read(walk.rest.clone(), APPEND_BYTES_MAX).await?;
                if piece.is_empty() {
                    return Ok(None);
                }
                walk.piece = piece.into_iter();
            }
        })
    }
}
