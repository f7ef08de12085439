//! Resources in the order of their ARNs: a k-way merge over sources and clusters, of everything or of tasks with one status, or an index whose
//! order is that of lists, where a filter names one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Cut;
use super::cursor::{PairStream, Steps};
use super::history;
use super::merge::Merge;
use crate::encoding::{Index, Place, arn_index_prefix, prefix_end, put_part, task_index_prefix};
use crate::engine::{Family, ScanLimit};
use crate::key::{Key, Kind};
use crate::proto::{StoredValue, stored_value};
use crate::store::StoreError;
use crate::view::{ClusterSelector, Record, ResourceFilter};

/// An index tells the head. At an older revision the changes since are looked at too, up to so many; beyond, everything is.
const CHANGES_SINCE_MAX: u64 = 20_000;

/// Where candidates come from, in order.
pub(crate) enum Candidates {
    /// One cursor for each cluster of each source.
    Merge(Merge),
    /// An index whose order is that of lists.
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
            Candidates::Merge(merge) => merge.next(cut),
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

pub(super) fn place_of(key: &Key) -> Result<Place, StoreError> {
    Place::of(key).ok_or_else(|| StoreError::Corrupt("a resource's key has not its parts".to_owned()))
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
        let changed = match kind {
            Kind::Task => changes_beside_index(cut, kind, filter)?,
            _ => Some(BTreeSet::new()),
        };
        let Some(changed) = changed else { return Ok(None) };
        let mut start = prefix.clone();
        if let Some((arn, source)) = &filter.after {
            let mut after = place_prefix.clone();
            put_part(&mut after, arn.as_bytes());
            put_part(&mut after, source.as_bytes());
            start = start.max(prefix_end(&after));
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

/// Resources of the clusters meant, behind `filter.after`, that changed since the revision shown, which an index of the head may not name any more; `None`: so many that
/// the index helps no more.
pub(super) fn changes_beside_index(
    cut: &Cut,
    kind: Kind,
    filter: &ResourceFilter,
) -> Result<Option<BTreeSet<Place>>, StoreError> {
    if cut.position.revision - cut.revision > CHANGES_SINCE_MAX {
        return Ok(None);
    }
    let mut changed = changed_since(cut, kind)?;
    changed.retain(|place| {
        let behind = |(arn, source): &(String, String)| (&place.arn, &place.source) > (arn, source);
        filter.after.as_ref().is_none_or(behind)
            && filter.source.as_ref().is_none_or(|source| *source == place.source)
            && filter
                .cluster
                .as_ref()
                .is_none_or(|cluster| cluster.matches(&place.cluster_arn))
    });
    Ok(Some(changed))
}

fn changed_since(cut: &Cut, kind: Kind) -> Result<BTreeSet<Place>, StoreError> {
    let mut changed = BTreeSet::new();
    if cut.is_head() {
        return Ok(changed);
    }
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
