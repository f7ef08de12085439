//! How many bytes of log stand where, coarsely: what the snapshot policy counts.

use std::collections::VecDeque;

/// Entries are counted together until they make up this many bytes.
const SEGMENT_BYTES: u64 = 1 << 20;

struct Segment {
    last_index: u64,
    bytes: u64,
}

/// Bytes of log by index, in segments of about a mebibyte.
#[derive(Default)]
pub(super) struct Sizes {
    segments: VecDeque<Segment>,
}

impl Sizes {
    pub(super) fn add(&mut self, index: u64, bytes: usize) {
        let bytes = bytes as u64;
        match self.segments.back_mut() {
            Some(segment) if segment.bytes < SEGMENT_BYTES => {
                segment.last_index = index;
                segment.bytes += bytes;
            }
            _ => self.segments.push_back(Segment {
                last_index: index,
                bytes,
            }),
        }
    }

    /// Forgets entries from `first` on; the segment it cuts keeps its count.
    pub(super) fn truncate(&mut self, first: u64) {
        while self.segments.len() > 1 && self.segments[self.segments.len() - 2].last_index + 1 >= first {
            self.segments.pop_back();
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.last_index = segment.last_index.min(first.saturating_sub(1));
        }
    }

    /// Forgets entries up to `last`.
    pub(super) fn purge(&mut self, last: u64) {
        while self.segments.front().is_some_and(|segment| segment.last_index <= last) {
            self.segments.pop_front();
        }
    }

    /// About how many bytes stand above `index`.
    pub(super) fn bytes_after(&self, index: Option<u64>) -> u64 {
        self.segments
            .iter()
            .filter(|segment| index.is_none_or(|index| segment.last_index > index))
            .map(|segment| segment.bytes)
            .sum()
    }

    /// The index up to which entries must go so that about `bytes` are kept; `None`: nothing must go.
    pub(super) fn purge_point(&self, bytes: u64) -> Option<u64> {
        let mut kept = 0;
        for segment in self.segments.iter().rev() {
            kept += segment.bytes;
            if kept > bytes {
                return Some(segment.last_index);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counting, cutting at both ends, and the point to purge up to.
    #[test]
    fn counts_by_segments() {
        let mut sizes = Sizes::default();
        for index in 1..=10 {
            sizes.add(index, SEGMENT_BYTES as usize);
        }
        assert_eq!(sizes.bytes_after(None), 10 * SEGMENT_BYTES);
        assert_eq!(sizes.bytes_after(Some(7)), 3 * SEGMENT_BYTES);
        assert_eq!(sizes.purge_point(3 * SEGMENT_BYTES), Some(7));
        assert_eq!(sizes.purge_point(10 * SEGMENT_BYTES), None);
        sizes.purge(4);
        assert_eq!(sizes.bytes_after(None), 6 * SEGMENT_BYTES);
        sizes.truncate(9);
        assert_eq!(sizes.bytes_after(None), 4 * SEGMENT_BYTES);
        sizes.truncate(0);
        assert_eq!(sizes.bytes_after(Some(0)), 0);
    }
}
