//! What a snapshot says of itself: a small file beside its data. Layout: CRC-32 (4 bytes, little-endian), protobuf `SnapshotManifest`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use blox_store::{CheckpointMeta, FeatureLevel};
use openraft::storage::SnapshotMeta as OpenraftMeta;
use prost::Message;

use crate::codec::{self, CodecError};
use crate::files;
use crate::proto::SnapshotManifest;
use crate::types::SnapshotMeta;

/// Layout of a snapshot: a RocksDB checkpoint's files, flat.
const SNAPSHOT_FORMAT: u32 = 1;
const FILE_NAME: &str = "manifest";
const CHECKSUM_BYTES: usize = 4;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("its manifest is damaged")]
    Damaged,
    #[error("its content is damaged: {0}")]
    Content(String),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it has format {0}, which this version of Blox does not know: upgrade this node")]
    Format(u32),
    #[error("it has feature level {found}, this version of blox knows up to {known}: upgrade this node")]
    FeatureLevel { found: FeatureLevel, known: FeatureLevel },
    #[error("it belongs to cluster {found}, this node to {expected}")]
    Cluster { found: String, expected: String },
}

/// The manifest of a checkpoint.
pub(super) fn of_checkpoint(checkpoint: &CheckpointMeta, cluster_id: &str) -> Result<SnapshotManifest, CodecError> {
    let applied = codec::decode_stored_log_id(&checkpoint.log_id)?;
    let membership = codec::decode_stored_membership(&checkpoint.membership)?;
    Ok(SnapshotManifest {
        format: SNAPSHOT_FORMAT,
        cluster_id: cluster_id.to_owned(),
        applied: applied.as_ref().map(codec::log_id_to_proto),
        membership: Some(codec::stored_membership_to_proto(&membership)),
        feature_level: checkpoint.feature_level.number(),
        revision: checkpoint.revision,
    })
}

/// Refuses what this node cannot use.
pub(super) fn check(manifest: &SnapshotManifest, cluster_id: &str, known: FeatureLevel) -> Result<(), ManifestError> {
    if manifest.format != SNAPSHOT_FORMAT {
        return Err(ManifestError::Format(manifest.format));
    }
    let found = FeatureLevel::new(manifest.feature_level);
    if found > known {
        return Err(ManifestError::FeatureLevel { found, known });
    }
    if manifest.cluster_id != cluster_id {
        return Err(ManifestError::Cluster {
            found: manifest.cluster_id.clone(),
            expected: cluster_id.to_owned(),
        });
    }
    Ok(())
}

/// What openraft wants to know of a snapshot.
pub(super) fn meta(manifest: &SnapshotManifest) -> Result<SnapshotMeta, CodecError> {
    let membership = manifest
        .membership
        .as_ref()
        .map(codec::stored_membership_from_proto)
        .transpose()?;
    Ok(OpenraftMeta {
        last_log_id: manifest.applied.as_ref().map(codec::log_id_from_proto),
        last_membership: membership.unwrap_or_default(),
    })
}

/// Writes the manifest into `directory` and syncs it.
pub(super) fn write(directory: &Path, manifest: &SnapshotManifest) -> std::io::Result<()> {
    let body = manifest.encode_to_vec();
    let path = directory.join(FILE_NAME);
    let written = || {
        let mut file = File::create(&path)?;
        file.write_all(&crc32fast::hash(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()
    };
    written().map_err(files::failed("write", &path))?;
    files::sync_directory(directory)
}

/// Reads the manifest in `directory`.
pub(super) fn read(directory: &Path) -> Result<SnapshotManifest, ManifestError> {
    let bytes = std::fs::read(directory.join(FILE_NAME))?;
    let (checksum, body) = bytes.split_at_checked(CHECKSUM_BYTES).ok_or(ManifestError::Damaged)?;
    if checksum != crc32fast::hash(body).to_le_bytes() {
        return Err(ManifestError::Damaged);
    }
    SnapshotManifest::decode(body).map_err(|_| ManifestError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest survives the disk; a damaged one, another cluster's and a newer one are refused.
    #[test]
    fn only_a_fitting_manifest_is_accepted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let manifest = SnapshotManifest {
            format: SNAPSHOT_FORMAT,
            cluster_id: "c".into(),
            feature_level: FeatureLevel::NEWEST.number(),
            revision: 3,
            ..SnapshotManifest::default()
        };
        write(directory.path(), &manifest).expect("written");
        assert_eq!(read(directory.path()).expect("our own bytes"), manifest);
        let check = |manifest: &SnapshotManifest, cluster_id: &str| check(manifest, cluster_id, FeatureLevel::NEWEST);
        check(&manifest, "c").expect("ours");
        assert!(matches!(check(&manifest, "d"), Err(ManifestError::Cluster { .. })));
        let newer = SnapshotManifest {
            feature_level: FeatureLevel::NEWEST.number() + 1,
            ..manifest
        };
        assert!(matches!(check(&newer, "c"), Err(ManifestError::FeatureLevel { .. })));

        let path = directory.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[6] ^= 1;
        std::fs::write(&path, bytes).expect("damaged");
        assert!(matches!(read(directory.path()), Err(ManifestError::Damaged)));
    }
}
