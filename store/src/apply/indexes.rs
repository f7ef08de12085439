//! Keeping the secondary indexes in step with `latest`.

use bytes::Bytes;
use prost::Message;

use super::overlay::Overlay;
use super::transaction::{decode, stored_key};
use crate::Revision;
use crate::encoding::{self, Index, Place, meta};
use crate::engine::{Engine, Family, Pair, ScanLimit, Write};
use crate::key::{Key, Kind};
use crate::proto::{Position, ResourceFields, StoredValue, stored_value};
use crate::store::StoreError;

/// [`Position::index_generation`] of a state that has every index of [`Index`].
const GENERATION: u32 = 1;
/// How much is built at once.
const STEP: ScanLimit = ScanLimit {
    count: 1_024,
    bytes: 1 << 20,
};

/// What of a value the indexes look at.
pub(crate) struct Indexed<'a> {
    fields: &'a ResourceFields,
}

impl<'a> Indexed<'a> {
    /// `None` for what is no resource.
    pub fn of(value: &'a StoredValue) -> Option<Indexed<'a>> {
        match &value.body {
            Some(stored_value::Body::Resource(resource)) => resource.fields.as_ref().map(|fields| Indexed { fields }),
            _ => None,
        }
    }

    /// ECS's own version.
    pub fn ecs_version(&self) -> Option<i64> {
        self.fields.ecs_version
    }

    fn value(&self, index: Index) -> &'a str {
        match index {
            Index::TaskInstance => &self.fields.instance_arn,
            Index::TaskGroup => &self.fields.group,
            Index::TaskStartedBy => &self.fields.started_by,
            Index::TaskStatus => &self.fields.status,
            Index::Gone | Index::Arn | Index::TombstoneAge | Index::ForgottenAge => "",
        }
    }
}

/// A key appears in `latest`.
pub(crate) fn create(overlay: &mut Overlay<'_>, key: &Key) -> Result<(), StoreError> {
    let gone = encoding::gone_key(key.as_bytes());
    if overlay.get(Family::Indexes, &gone)?.is_some() {
        // It was there before: whoever reads at an older revision now finds it through `latest`, and by its ARN as ever.
        overlay.write(Family::Indexes, gone, None);
    } else if let Some(place) = Place::of(key) {
        let key = place.index_key(encoding::arn_index_prefix(key.kind()));
        overlay.write(Family::Indexes, key, Some(Bytes::new()));
    }
    Ok(())
}

/// A key leaves `latest` with this revision. Its ARN stays findable for reads at older revisions until [`forget`].
pub(crate) fn delete(overlay: &mut Overlay<'_>, key: &Key, revision: Revision) {
    let value = Bytes::copy_from_slice(&revision.to_be_bytes());
    overlay.write(Family::Indexes, encoding::gone_key(key.as_bytes()), Some(value));
}

/// No revision still kept knows the key that was deleted with `revision`, unless it came back since.
pub(crate) fn forget(overlay: &mut Overlay<'_>, key: &Key, revision: Revision) -> Result<(), StoreError> {
    let gone = encoding::gone_key(key.as_bytes());
    let deleted_with = overlay.get(Family::Indexes, &gone)?;
    if deleted_with.as_deref() == Some(revision.to_be_bytes().as_slice()) {
        overlay.write(Family::Indexes, gone, None);
        if let Some(place) = Place::of(key) {
            overlay.write(
                Family::Indexes,
                place.index_key(encoding::arn_index_prefix(key.kind())),
                None,
            );
        }
    }
    Ok(())
}

/// A value of `latest` changes, appears or goes: the indexes over fields of tasks. Empty fields are not indexed.
pub(crate) fn update(
    overlay: &mut Overlay<'_>,
    key: &Key,
    previous: Option<&Indexed<'_>>,
    current: Option<&Indexed<'_>>,
) {
    if key.kind() != Kind::Task {
        return;
    }
    update_status(overlay, key, previous, current);
    for index in [Index::TaskInstance, Index::TaskGroup, Index::TaskStartedBy] {
        let before = previous.map_or("", |fields| fields.value(index));
        let after = current.map_or("", |fields| fields.value(index));
        if before == after {
            continue;
        }
        let Some(place) = Place::of(key) else { return };
        if !before.is_empty() {
            overlay.write(
                Family::Indexes,
                place.index_key(encoding::task_index_prefix(index, before)),
                None,
            );
        }
        if !after.is_empty() {
            let key = place.index_key(encoding::task_index_prefix(index, after));
            overlay.write(Family::Indexes, key, Some(Bytes::new()));
        }
    }
}

/// The index over their status came later than the others: states of older versions have none, and equal states must have equal hashes.
fn update_status(overlay: &mut Overlay<'_>, key: &Key, previous: Option<&Indexed<'_>>, current: Option<&Indexed<'_>>) {
    let status = |fields: Option<&Indexed<'_>>| fields.map_or("", |fields| fields.value(Index::TaskStatus)).to_owned();
    let (before, after) = (status(previous), status(current));
    if before.eq_ignore_ascii_case(&after) {
        return;
    }
    if !before.is_empty() {
        overlay.write_unhashed(Family::Indexes, encoding::status_key(&before, key), None);
    }
    if !after.is_empty() {
        overlay.write_unhashed(Family::Indexes, encoding::status_key(&after, key), Some(Bytes::new()));
    }
}

/// Builds what a state lacks that another version wrote: the index over the status of tasks. Where that is interrupted, it begins again.
pub(crate) fn complete(engine: &dyn Engine, position: &mut Position) -> Result<(), StoreError> {
    if position.index_generation == GENERATION {
        return Ok(());
    }
    position.index_generation = GENERATION;
    if !position.started {
        return Ok(());
    }
    // What stands there is of the time before the other version went on.
    step_through(engine, Family::Indexes, &[Index::TaskStatus as u8], |(key, _)| {
        Ok(Some(index_write(key, None)))
    })?;
    let mut tasks = 0_u64;
    step_through(engine, Family::Latest, &[Kind::Task as u8], |(key, value)| {
        let key = stored_key(key)?;
        let value: StoredValue = decode(value, "a value of `latest`")?;
        let status = Indexed::of(&value).map_or("", |fields| fields.value(Index::TaskStatus));
        tasks += 1;
        Ok((!status.is_empty()).then(|| index_write(encoding::status_key(status, &key), Some(Bytes::new()))))
    })?;
    engine.write(&[Write {
        family: Family::Meta,
        key: Bytes::from_static(meta::POSITION),
        value: Some(position.encode_to_vec().into()),
    }])?;
    tracing::info!(
        tasks,
        "another version has written to the state: its index over the status of tasks was built anew"
    );
    Ok(())
}

fn index_write(key: Bytes, value: Option<Bytes>) -> Write {
    Write {
        family: Family::Indexes,
        key,
        value,
    }
}

/// Writes what each pair of a family whose key begins with `front` asks for, in bounded steps.
fn step_through(
    engine: &dyn Engine,
    family: Family,
    front: &[u8],
    mut write: impl FnMut(Pair) -> Result<Option<Write>, StoreError>,
) -> Result<(), StoreError> {
    let (mut from, until) = (front.to_vec(), encoding::prefix_end(front));
    loop {
        let pairs = engine.scan(family, &from, &until, STEP)?;
        let Some((last, _)) = pairs.last() else { return Ok(()) };
        from = [last.as_ref(), &[0]].concat();
        let writes = pairs.into_iter().filter_map(|pair| write(pair).transpose());
        engine.write(&writes.collect::<Result<Vec<_>, _>>()?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Reader;
    use crate::engine::memory::MemoryEngine;
    use crate::proto::ResourceRecord;

    const EVERYTHING: ScanLimit = ScanLimit {
        count: usize::MAX,
        bytes: usize::MAX,
    };

    fn task(id: usize) -> Key {
        Key::resource(Kind::Task, "s", "c", &format!("{id:06}"))
    }

    fn latest(key: &Key, status: &str) -> Write {
        let fields = ResourceFields {
            status: status.to_owned(),
            ..ResourceFields::default()
        };
        let resource = ResourceRecord {
            fields: Some(fields),
            ..ResourceRecord::default()
        };
        let value = StoredValue {
            body: Some(stored_value::Body::Resource(resource)),
            ..StoredValue::default()
        };
        Write {
            family: Family::Latest,
            key: key.to_bytes(),
            value: Some(value.encode_to_vec().into()),
        }
    }

    fn indexed(engine: &dyn Reader) -> Vec<Bytes> {
        let pairs = engine.scan(Family::Indexes, &[], &[], EVERYTHING).expect("a scan");
        pairs.into_iter().map(|(key, _)| key).collect()
    }

    /// A state of a version without the index gets it, over several steps; what an earlier version left of it goes. Once it is there, nothing is done.
    #[test]
    fn an_older_state_gets_its_index() {
        let engine = MemoryEngine::default();
        let count = 2 * STEP.count + 1;
        let status = |id: usize| ["RUNNING", "", "Stopped"][id % 3];
        let tasks = (0..count).map(|id| latest(&task(id), status(id)));
        engine.write(&tasks.collect::<Vec<_>>()).expect("written");
        let other = index_write(Bytes::from_static(&[Index::Arn as u8, 1]), Some(Bytes::new()));
        let left = index_write(encoding::status_key("PENDING", &task(0)), Some(Bytes::new()));
        engine.write(&[other.clone(), left]).expect("written");

        let mut position = Position {
            started: true,
            applied_index: 7,
            ..Position::default()
        };
        complete(&engine, &mut position).expect("completed");
        let mut expected: Vec<Bytes> = (0..count)
            .filter(|id| !status(*id).is_empty())
            .map(|id| encoding::status_key(status(id), &task(id)))
            .chain([other.key])
            .collect();
        expected.sort();
        assert_eq!(indexed(&engine), expected);
        let stored = engine.get(Family::Meta, meta::POSITION).expect("readable");
        let stored: Position = decode(stored.expect("written"), "the position").expect("a position");
        assert_eq!((&stored, stored.index_generation), (&position, GENERATION));

        engine.write(&[latest(&task(count), "RUNNING")]).expect("written");
        complete(&engine, &mut position).expect("nothing to do");
        assert_eq!(indexed(&engine), expected);
    }
}
