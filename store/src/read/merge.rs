//! A k-way merge over the clusters of all sources, in the order of ARNs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, btree_set};
use std::sync::Arc;

use super::Cut;
use super::cursor::{RangeCursor, STEP_BYTES_MAX, Steps, first_key};
use super::list::{place_of, record};
use super::status::{StatusCursor, StatusIndex};
use crate::encoding::{Place, prefix_end};
use crate::key::{Key, Kind};
use crate::proto::StoredValue;
use crate::store::StoreError;
use crate::view::{ClusterSelector, Record, ResourceFilter};

/// Buffers of all cursors of one list, bytes.
const BUFFERS_BYTES: usize = 4 << 20;
/// The least a cursor takes out of the engine at once, bytes.
const STEP_BYTES_MIN: usize = 16 << 10;
/// With more cursors than this each begins with a single row.
const CURSORS_THAT_READ_AHEAD: usize = 16;

/// The head of one cursor.
struct Row {
    place: Place,
    cursor: usize,
    record: Record,
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.place == other.place
    }
}
impl Eq for Row {}
impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Row) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Row {
    fn cmp(&self, other: &Row) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

/// One of those that a merge takes the next one from.
enum Cursor {
    /// Of a cluster, everything.
    All(RangeCursor),
    /// Of a cluster, what the index over the status names.
    OfStatus(StatusCursor),
    /// Tasks that changed since the revision shown.
    Changed(btree_set::IntoIter<Place>),
}

/// See the module.
pub(crate) struct Merge {
    cursors: Vec<Cursor>,
    heads: BinaryHeap<Reverse<Row>>,
}

impl Merge {
    /// Of a list.
    pub fn new(cut: &Arc<Cut>, kind: Kind, filter: &ResourceFilter) -> Result<Merge, StoreError> {
        let status = StatusIndex::new(cut, kind, filter)?;
        let groups = groups(cut, kind, filter, status.as_deref())?;
        let steps = Steps {
            first: if groups.len() > CURSORS_THAT_READ_AHEAD {
                1
            } else {
                Steps::ALONE.first
            },
            bytes: (BUFFERS_BYTES / groups.len().max(1)).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX),
        };
        let cursors = groups.into_iter().map(|group| {
            let (start, until) = (group.start(kind, filter), prefix_end(&group.prefix));
            match &status {
                None => Cursor::All(RangeCursor::new(Arc::clone(cut), start, until, steps)),
                Some(index) => Cursor::OfStatus(index.cursor(&start, &until, steps)),
            }
        });
        let changed = status.as_ref().map(|index| index.changed.clone().into_iter());
        let mut merge = Merge {
            cursors: cursors.chain(changed.map(Cursor::Changed)).collect(),
            heads: BinaryHeap::new(),
        };
        for cursor in 0..merge.cursors.len() {
            merge.advance(cursor, cut)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, cursor: usize, cut: &Cut) -> Result<(), StoreError> {
        if let Some((key, value)) = self.following(cursor, cut)? {
            let place = place_of(&key)?;
            self.heads.push(Reverse(Row {
                place,
                cursor,
                record: record(key, value)?,
            }));
        }
        Ok(())
    }

    /// What a cursor comes to next.
    fn following(&mut self, cursor: usize, cut: &Cut) -> Result<Option<(Key, StoredValue)>, StoreError> {
        loop {
            let key = match &mut self.cursors[cursor] {
                Cursor::All(cursor) => return cursor.next(),
                Cursor::OfStatus(cursor) => cursor.next(cut)?,
                Cursor::Changed(places) => places.next().map(|place| place.key(Kind::Task)),
            };
            let Some(key) = key else { return Ok(None) };
            if let Some(value) = cut.get(&key)? {
                return Ok(Some((key, value)));
            }
        }
    }

    /// The next one.
    pub fn next(&mut self, cut: &Cut) -> Result<Option<Record>, StoreError> {
        let Some(Reverse(row)) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(row.cursor, cut)?;
        Ok(Some(row.record))
    }
}

/// A range of keys within which keys are in the order of their ARNs: a cluster of a source; of clusters, all of a source.
struct Group {
    source: String,
    prefix: Vec<u8>,
}

impl Group {
    fn new(kind: Kind, source: &str, cluster_arn: &str) -> Group {
        let mut prefix = [[kind as u8].as_slice(), source.as_bytes(), &[0]].concat();
        if kind != Kind::Cluster {
            prefix.extend_from_slice(cluster_arn.as_bytes());
            prefix.push(0);
        }
        Group {
            source: source.to_owned(),
            prefix,
        }
    }

    /// The first key behind `filter.after`.
    fn start(&self, kind: Kind, filter: &ResourceFilter) -> Vec<u8> {
        let mut start = self.prefix.clone();
        if let Some((arn, source)) = &filter.after {
            if kind == Kind::Cluster {
                start.extend_from_slice(arn.as_bytes());
                start.push(0);
            }
            start.extend_from_slice(arn.as_bytes());
            if self.source <= *source {
                start.push(0);
            }
        }
        start
    }
}

/// The groups a filter means, found by jumping from one to the next.
fn groups(
    cut: &Cut,
    kind: Kind,
    filter: &ResourceFilter,
    status: Option<&StatusIndex>,
) -> Result<Vec<Group>, StoreError> {
    let first = |from: &[u8], until: &[u8]| match status {
        None => first_key(cut, from, until),
        Some(index) => index.first_key(cut, from, until),
    };
    let (mut next, until) = match &filter.source {
        None => (vec![kind as u8], vec![kind as u8 + 1]),
        Some(source) => {
            let source = [[kind as u8].as_slice(), source.as_bytes()].concat();
            ([source.as_slice(), &[0]].concat(), [source.as_slice(), &[1]].concat())
        }
    };
    let mut groups = Vec::new();
    while let Some(key) = first(&next, &until)? {
        let place = place_of(&key)?;
        let source_end = || [[kind as u8].as_slice(), place.source.as_bytes(), &[1]].concat();
        match &filter.cluster {
            // One jump a source: the cluster's place is known.
            Some(ClusterSelector::Arn(cluster_arn)) => {
                groups.push(Group::new(kind, &place.source, cluster_arn));
                next = source_end();
            }
            _ if kind == Kind::Cluster => {
                groups.push(Group::new(kind, &place.source, ""));
                next = source_end();
            }
            selector => {
                let group = Group::new(kind, &place.source, &place.cluster_arn);
                next = prefix_end(&group.prefix);
                if selector
                    .as_ref()
                    .is_none_or(|selector| selector.matches(&place.cluster_arn))
                {
                    groups.push(group);
                }
            }
        }
    }
    Ok(groups)
}
