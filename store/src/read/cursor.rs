//! Walking over a range of keys of a cut, in bounded steps: memory does not grow with the range.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Cut;
use crate::apply::transaction::stored_key;
use crate::encoding::{Index, gone_key};
use crate::engine::{Family, Pair, Reader, ScanLimit};
use crate::key::Key;
use crate::proto::StoredValue;
use crate::store::StoreError;

/// Pairs of one step at most.
pub(crate) const STEP_PAIRS_MAX: usize = 256;
/// Bytes of one step at most, where one cursor runs alone.
pub(crate) const STEP_BYTES_MAX: usize = 256 << 10;

/// How large the steps of a cursor are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    /// Pairs of the first step; it grows fourfold up to [`STEP_PAIRS_MAX`].
    pub first: usize,
    /// Bytes of a step.
    pub bytes: usize,
}

impl Steps {
    /// Of a cursor that runs alone.
    pub const ALONE: Steps = Steps {
        first: 16,
        bytes: STEP_BYTES_MAX,
    };
}

/// A range of one family, read step by step.
pub(crate) struct PairStream {
    family: Family,
    next: Vec<u8>,
    until: Vec<u8>,
    step: ScanLimit,
    buffer: VecDeque<Pair>,
    ended: bool,
}

impl PairStream {
    /// `from <= key < until`.
    pub fn new(family: Family, from: Vec<u8>, until: Vec<u8>, steps: Steps) -> PairStream {
        let step = ScanLimit {
            count: steps.first,
            bytes: steps.bytes,
        };
        PairStream {
            family,
            next: from,
            until,
            step,
            buffer: VecDeque::new(),
            ended: false,
        }
    }

    /// The next pair, which stays.
    pub fn peek(&mut self, reader: &dyn Reader) -> Result<Option<&Pair>, StoreError> {
        if self.buffer.is_empty() && !self.ended {
            self.buffer = reader.scan(self.family, &self.next, &self.until, self.step)?.into();
            self.step.count = (self.step.count * 4).min(STEP_PAIRS_MAX);
            match self.buffer.back() {
                Some((last, _)) => {
                    self.next.clear();
                    self.next.extend_from_slice(last);
                    self.next.push(0);
                }
                None => self.ended = true,
            }
        }
        Ok(self.buffer.front())
    }

    /// The next pair.
    pub fn pop(&mut self, reader: &dyn Reader) -> Result<Option<Pair>, StoreError> {
        self.peek(reader)?;
        Ok(self.buffer.pop_front())
    }
}

/// The keys of a range with their values, at the cut's revision.
pub(crate) struct RangeCursor {
    cut: Arc<Cut>,
    latest: PairStream,
    /// Keys that are gone from `latest`; only where an older revision is shown.
    gone: Option<PairStream>,
}

impl RangeCursor {
    /// `from <= key < until`, which both begin with a kind.
    pub fn new(cut: Arc<Cut>, from: Vec<u8>, until: Vec<u8>, steps: Steps) -> RangeCursor {
        let gone = (!cut.is_head())
            .then(|| PairStream::new(Family::Indexes, gone_key(&from).into(), gone_key(&until).into(), steps));
        RangeCursor {
            cut,
            latest: PairStream::new(Family::Latest, from, until, steps),
            gone,
        }
    }

    /// The next key in order that has a value.
    pub fn next(&mut self) -> Result<Option<(Key, StoredValue)>, StoreError> {
        loop {
            let Some((key, latest)) = self.next_key()? else {
                return Ok(None);
            };
            let value = match latest {
                Some(bytes) => self.cut.value_of(&key, bytes)?,
                None => self.cut.left_behind(&key)?,
            };
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
    }

    /// The next key that is or was there, with what `latest` holds.
    fn next_key(&mut self) -> Result<Option<(Key, Option<Bytes>)>, StoreError> {
        let reader = &*self.cut.reader;
        if let Some(gone) = &mut self.gone
            && let Some((gone_key, _)) = gone.peek(reader)?
        {
            let key = gone_key.slice(1..);
            let before = self.latest.peek(reader)?.is_none_or(|(latest, _)| key < *latest);
            if before {
                gone.pop(reader)?;
                return Ok(Some((stored_key(key)?, None)));
            }
        }
        let Some((key, value)) = self.latest.pop(reader)? else {
            return Ok(None);
        };
        Ok(Some((stored_key(key)?, Some(value))))
    }
}

/// The first key of a range that is there, or was at an older revision the cut can show.
pub(crate) fn first_key(cut: &Cut, from: &[u8], until: &[u8]) -> Result<Option<Key>, StoreError> {
    let mut latest = cut.reader.scan(Family::Latest, from, until, ScanLimit::ONE)?;
    let latest = latest.pop().map(|(key, _)| key);
    if cut.is_head() {
        return latest.map(stored_key).transpose();
    }
    let mut gone = cut
        .reader
        .scan(Family::Indexes, &gone_key(from), &gone_key(until), ScanLimit::ONE)?;
    let gone = gone.pop().map(|(key, _)| key.slice(1..));
    latest.into_iter().chain(gone).min().map(stored_key).transpose()
}

/// The index of gone keys begins with its number: [`gone_key`] of any key lies within it.
const _: () = assert!(Index::Gone as u8 == 1);
