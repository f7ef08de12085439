//! Keeping the secondary indexes in step with `latest`.

use bytes::Bytes;

use super::overlay::Overlay;
use crate::Revision;
use crate::encoding::{self, Index, Place};
use crate::engine::Family;
use crate::key::{Key, Kind};
use crate::proto::{ResourceFields, StoredValue, stored_value};
use crate::store::StoreError;

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
