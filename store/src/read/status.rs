//! Tasks by their status.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Cut;
use super::cursor::{PairStream, Steps};
use super::list::{changes_beside_index, place_of};
use crate::apply::transaction::stored_key;
use crate::encoding::{Place, prefix_end, status_prefix};
use crate::engine::{Family, ScanLimit};
use crate::key::{Key, Kind};
use crate::store::StoreError;
use crate::view::ResourceFilter;

/// The index over the status of tasks: most of those kept have stopped, and are not what most lists ask for.
pub(super) struct StatusIndex {
    prefix: Vec<u8>,
    /// Tasks that changed since the revision shown: the index may not name them any more.
    pub(super) changed: BTreeSet<Place>,
}

impl StatusIndex {
    /// `None` where it does not help.
    pub(super) fn new(cut: &Cut, kind: Kind, filter: &ResourceFilter) -> Result<Option<Arc<StatusIndex>>, StoreError> {
        let status = filter.status.as_ref().filter(|status| !status.is_empty());
        let Some(status) = status.filter(|_| kind == Kind::Task) else {
            return Ok(None);
        };
        let changed = changes_beside_index(cut, kind, filter)?;
        Ok(changed.map(|changed| {
            let prefix = status_prefix(status);
            Arc::new(StatusIndex { prefix, changed })
        }))
    }

    /// Walks over what it names of a range of `latest`, without what changed.
    pub(super) fn cursor(self: &Arc<Self>, from: &[u8], until: &[u8], steps: Steps) -> StatusCursor {
        let (from, until) = (self.within(from), self.within(until));
        StatusCursor {
            index: Arc::clone(self),
            stream: PairStream::new(Family::Indexes, from, until, steps),
        }
    }

    /// The first key of a range of `latest` that the index names.
    pub(super) fn first_key(&self, cut: &Cut, from: &[u8], until: &[u8]) -> Result<Option<Key>, StoreError> {
        let (from, until) = (self.within(from), self.within(until));
        let first = cut.reader.scan(Family::Indexes, &from, &until, ScanLimit::ONE)?;
        first.first().map(|(indexed, _)| self.key(indexed)).transpose()
    }

    /// Where in the index a key of `latest` stands, or would; behind all of them, if it is of another kind.
    fn within(&self, key: &[u8]) -> Vec<u8> {
        match key.split_first() {
            Some((kind, tail)) if *kind == Kind::Task as u8 => [self.prefix.as_slice(), tail].concat(),
            _ => prefix_end(&self.prefix),
        }
    }

    /// The key of `latest` that one of the index stands for.
    fn key(&self, indexed: &[u8]) -> Result<Key, StoreError> {
        let tail = indexed.get(self.prefix.len()..).unwrap_or_default();
        stored_key([[Kind::Task as u8].as_slice(), tail].concat().into())
    }
}

/// See [`StatusIndex::cursor`].
pub(super) struct StatusCursor {
    index: Arc<StatusIndex>,
    stream: PairStream,
}

impl StatusCursor {
    pub(super) fn next(&mut self, cut: &Cut) -> Result<Option<Key>, StoreError> {
        let StatusIndex { changed, .. } = &*self.index;
        while let Some((indexed, _)) = self.stream.pop(&*cut.reader)? {
            let key = self.index.key(&indexed)?;
            if changed.is_empty() || !changed.contains(&place_of(&key)?) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}
