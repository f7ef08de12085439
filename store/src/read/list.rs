//! Resources in the order of their ARNs: a k-way merge over sources and clusters, or an index where a filter names one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::Cut;
use super::cursor::{PairStream, RangeCursor, STEP_BYTES_MAX, Steps, first_key};
use super::history;
use crate::encoding::{Index, Place, arn_index_prefix, prefix_end, put_part, task_index_prefix};
use crate::engine::{Family, ScanLimit};
use crate::key::{Key, Kind};
use crate::proto::{StoredValue, stored_value};
use crate::store::StoreError;
use crate::view::{ClusterSelector, Record, ResourceFilter};

/// Buffers of all cursors of one list, bytes.
const BUFFERS_BYTES: usize = 4 << 20;
/// The least a cursor takes out of the engine at once, bytes.
const STEP_BYTES_MIN: usize = 16 << 10;
/// With more cursors than this each begins with a single row.
const CURSORS_THAT_READ_AHEAD: usize = 16;
/// An index tells the head. At an older revision the changes since are looked at too, up to so many; beyond, everything is.
const CHANGES_SINCE_MAX: u64 = 20_000;

/// Where candidates come from, in order.
pub(crate) enum Candidates {
    /// One cursor for each cluster of each source.
    Merge(Merge),
    /// An index over one field.
    Index(IndexWalk),
}

impl Candidates {
    /// Of a list.
    pub fn new(cut: &Arc<Cut>, kind: Kind, filter: &ResourceFilter) -> Result<Candidates, StoreError> {
        if let Some(walk) = IndexWalk::new(cut, kind, filter)? {
            return Ok(Candidates::Index(walk));
        }
        Merge::new(cut, kind, filter).map(Candidates::Merge)
    }

    /// The next one, whether it is asked for or not.
    pub fn next(&mut self, cut: &Cut) -> Result<Option<Record>, StoreError> {
        match self {
            Candidates::Merge(merge) => merge.next(),
            Candidates::Index(walk) => walk.next(cut),
        }
    }
}

/// A resource with its place in the state.
pub(crate) fn record(key: Key, value: StoredValue) -> Result<Record, StoreError> {
    let StoredValue {
        create_revision,
        mod_revision,
        version,
        body,
        ..
    } = value;
    let Some(stored_value::Body::Resource(resource)) = body else {
        return Err(StoreError::Corrupt("a resource's key holds no resource".to_owned()));
    };
    Ok(Record {
        key,
        create_revision,
        mod_revision,
        version,
        resource,
    })
}

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

/// See the module.
pub(crate) struct Merge {
    cursors: Vec<RangeCursor>,
    heads: BinaryHeap<Reverse<Row>>,
}

impl Merge {
    fn new(cut: &Arc<Cut>, kind: Kind, filter: &ResourceFilter) -> Result<Merge, StoreError> {
        let groups = groups(cut, kind, filter)?;
        let steps = Steps {
            first: if groups.len() > CURSORS_THAT_READ_AHEAD {
                1
            } else {
                Steps::ALONE.first
            },
            bytes: (BUFFERS_BYTES / groups.len().max(1)).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX),
        };
        let cursors = groups.into_iter().map(|group| {
            let until = prefix_end(&group.prefix);
            RangeCursor::new(Arc::clone(cut), group.start(kind, filter), until, steps)
        });
        let mut merge = Merge {
            cursors: cursors.collect(),
            heads: BinaryHeap::new(),
        };
        for cursor in 0..merge.cursors.len() {
            merge.advance(cursor)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, cursor: usize) -> Result<(), StoreError> {
        if let Some((key, value)) = self.cursors[cursor].next()? {
            let place = place_of(&key)?;
            self.heads.push(Reverse(Row {
                place,
                cursor,
                record: record(key, value)?,
            }));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Record>, StoreError> {
        let Some(Reverse(row)) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(row.cursor)?;
        Ok(Some(row.record))
    }
}

fn place_of(key: &Key) -> Result<Place, StoreError> {
    Place::of(key).ok_or_else(|| StoreError::Corrupt("a resource's key has not its parts".to_owned()))
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
fn groups(cut: &Cut, kind: Kind, filter: &ResourceFilter) -> Result<Vec<Group>, StoreError> {
    let (mut next, until) = match &filter.source {
        None => (vec![kind as u8], vec![kind as u8 + 1]),
        Some(source) => {
            let source = [[kind as u8].as_slice(), source.as_bytes()].concat();
            ([source.as_slice(), &[0]].concat(), [source.as_slice(), &[1]].concat())
        }
    };
    let mut groups = Vec::new();
    while let Some(key) = first_key(cut, &next, &until)? {
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

/// Candidates out of an index, whose order is that of lists.
pub(crate) struct IndexWalk {
    kind: Kind,
    /// Length of what stands before the places in the index' keys.
    prefix_length: usize,
    stream: PairStream,
    /// Resources that changed since the revision shown: the index may not name them any more.
    changed: BTreeSet<Place>,
}

impl IndexWalk {
    /// `None` where the filter names no field with an index, or so much changed since that the index helps no more.
    fn new(cut: &Cut, kind: Kind, filter: &ResourceFilter) -> Result<Option<IndexWalk>, StoreError> {
        let Some((prefix, place_prefix)) = index_for(kind, filter) else {
            return Ok(None);
        };
        // Gone resources stay in the index by ARN.
        let complete = cut.is_head() || kind != Kind::Task;
        if !complete && cut.position.revision - cut.revision > CHANGES_SINCE_MAX {
            return Ok(None);
        }
        let mut start = prefix.clone();
        if let Some((arn, source)) = &filter.after {
            let mut after = place_prefix.clone();
            put_part(&mut after, arn.as_bytes());
            put_part(&mut after, source.as_bytes());
            start = start.max(prefix_end(&after));
        }
        let mut changed = if complete {
            BTreeSet::new()
        } else {
            changed_since(cut, kind)?
        };
        if let Some((arn, source)) = &filter.after {
            changed.retain(|place| (&place.arn, &place.source) > (arn, source));
        }
        let stream = PairStream::new(Family::Indexes, start, prefix_end(&prefix), Steps::ALONE);
        Ok(Some(IndexWalk {
            kind,
            prefix_length: place_prefix.len(),
            stream,
            changed,
        }))
    }

    fn next(&mut self, cut: &Cut) -> Result<Option<Record>, StoreError> {
        while let Some(place) = self.next_place(cut)? {
            let key = place.key(self.kind);
            if let Some(value) = cut.get(&key)? {
                return record(key, value).map(Some);
            }
        }
        Ok(None)
    }

    fn next_place(&mut self, cut: &Cut) -> Result<Option<Place>, StoreError> {
        let reader = &*cut.reader;
        let indexed = match self.stream.peek(reader)? {
            None => None,
            Some((key, _)) => {
                let place = Place::from_index(&key[self.prefix_length..]);
                Some(place.ok_or_else(|| StoreError::Corrupt("a key of an index cannot be read".to_owned()))?)
            }
        };
        let changed_first = match (&indexed, self.changed.first()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(indexed), Some(changed)) => changed < indexed,
        };
        if changed_first {
            return Ok(self.changed.pop_first());
        }
        if let Some(place) = &indexed {
            self.changed.remove(place);
            self.stream.pop(reader)?;
        }
        Ok(indexed)
    }
}

/// The part of an index a filter names: its front, and the front of its places.
fn index_for(kind: Kind, filter: &ResourceFilter) -> Option<(Vec<u8>, Vec<u8>)> {
    let of_tasks = |index, value: &Option<String>| {
        value
            .as_ref()
            .filter(|value| !value.is_empty())
            .map(|value| task_index_prefix(index, value))
    };
    match kind {
        Kind::Task => of_tasks(Index::TaskInstance, &filter.instance_arn)
            .or_else(|| of_tasks(Index::TaskStartedBy, &filter.started_by))
            .or_else(|| of_tasks(Index::TaskGroup, &filter.group))
            .map(|prefix| (prefix.clone(), prefix)),
        Kind::Instance => filter.instance_arn.as_ref().map(|arn| {
            let place_prefix = arn_index_prefix(kind);
            let mut prefix = place_prefix.clone();
            put_part(&mut prefix, arn.as_bytes());
            (prefix, place_prefix)
        }),
        _ => None,
    }
}

fn changed_since(cut: &Cut, kind: Kind) -> Result<BTreeSet<Place>, StoreError> {
    let mut changed = BTreeSet::new();
    let mut next = cut.revision + 1;
    loop {
        let changes = history::changes(
            cut,
            next,
            ScanLimit {
                count: 1_024,
                bytes: 1 << 20,
            },
        )?;
        let Some(last) = changes.last() else { return Ok(changed) };
        next = last.revision + 1;
        for change in changes.iter().filter(|change| change.key.kind() == kind) {
            changed.insert(place_of(&change.key)?);
        }
    }
}

/// The first resource of that ARN, by source, in the clusters meant.
pub(crate) fn find(
    cut: &Cut,
    kind: Kind,
    cluster: Option<&ClusterSelector>,
    arn: &str,
) -> Result<Option<Record>, StoreError> {
    let place_prefix = arn_index_prefix(kind);
    let mut prefix = place_prefix.clone();
    put_part(&mut prefix, arn.as_bytes());
    let until = prefix_end(&prefix);
    let mut places = PairStream::new(Family::Indexes, prefix, until, Steps::ALONE);
    while let Some((key, _)) = places.pop(&*cut.reader)? {
        let place = Place::from_index(&key[place_prefix.len()..]);
        let place = place.ok_or_else(|| StoreError::Corrupt("a key of an index cannot be read".to_owned()))?;
        if cluster.is_none_or(|cluster| cluster.matches(&place.cluster_arn))
            && let Some(value) = cut.get(&place.key(kind))?
        {
            return record(place.key(kind), value).map(Some);
        }
    }
    Ok(None)
}
