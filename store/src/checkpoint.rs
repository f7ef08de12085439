//! Checkpoints: a directory of files, and beside them a manifest that is written last, so that half a checkpoint is never taken for one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use crate::encoding::meta;
use crate::engine::memory::MemoryEngine;
use crate::engine::{Engine, Reader};
use crate::feature_level::FeatureLevel;
use crate::proto::{CheckpointFile, CheckpointManifest};
use crate::read::cut::position;
use crate::store::{CheckpointMeta, StoreError};

/// The manifest's file: an encoded [`CheckpointManifest`], then its CRC-32, four bytes, big-endian.
const MANIFEST: &str = "CHECKPOINT";
/// Version of the directory's layout.
const FORMAT: u32 = 1;
/// RocksDB's text logs, which are no part of a checkpoint.
const TEXT_LOG: &str = "LOG";
/// The engine of a node.
pub(crate) const ROCKSDB: &str = "rocksdb";
/// The engine of simulations.
pub(crate) const MEMORY: &str = "memory";

/// Where the state in an engine stands.
pub(crate) fn meta_of(reader: &dyn Reader) -> Result<CheckpointMeta, StoreError> {
    let position = position(reader)?;
    let membership = reader
        .get(crate::engine::Family::Meta, meta::MEMBERSHIP)?
        .unwrap_or_default();
    Ok(CheckpointMeta {
        applied_index: position.applied_index,
        log_id: position.log_id,
        membership,
        revision: position.revision,
        feature_level: FeatureLevel::new(position.feature_level),
        state_hash: position.state_hash,
    })
}

/// Writes a checkpoint, and makes it durable. `read_back` opens the files written: what they hold is not asked of the engine, to which
/// entries are applied meanwhile.
pub(crate) fn write(
    engine: &dyn Engine,
    directory: &Path,
    kind: &str,
    read_back: impl FnOnce(&Path) -> Result<CheckpointMeta, StoreError>,
) -> Result<CheckpointMeta, StoreError> {
    if directory.exists() {
        return Err(StoreError::storage(
            format!("writing the checkpoint {}", directory.display()),
            "it exists already",
        ));
    }
    engine.write_checkpoint(directory)?;
    let meta = read_back(directory)?;
    let finish = || -> std::io::Result<()> {
        let files = sync_files(directory)?;
        let manifest = CheckpointManifest {
            format: FORMAT,
            engine: kind.to_owned(),
            applied_index: meta.applied_index,
            log_id: meta.log_id.clone(),
            membership: meta.membership.clone(),
            revision: meta.revision,
            files,
            feature_level: meta.feature_level.number(),
        };
        let mut bytes = manifest.encode_to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        write_synced(&directory.join(MANIFEST), &bytes)?;
        sync_directory(directory)?;
        sync_directory(parent(directory))
    };
    finish().map_err(|error| StoreError::storage(format!("syncing the checkpoint {}", directory.display()), error))?;
    Ok(meta)
}

/// The files of a checkpoint, its manifest among them, by name.
pub(crate) fn files(directory: &Path) -> std::io::Result<Vec<CheckpointFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.push(CheckpointFile {
            name: plain_name(&entry)?,
            size_bytes: entry.metadata()?.len(),
        });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

fn plain_name(entry: &fs::DirEntry) -> std::io::Result<String> {
    entry
        .file_name()
        .into_string()
        .map_err(|name| std::io::Error::other(format!("the file name {name:?} is no text")))
}

/// A checkpoint is flat; nothing of it may point elsewhere.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// Syncs every file but text logs, which go.
fn sync_files(directory: &Path) -> std::io::Result<Vec<CheckpointFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = plain_name(&entry)?;
        if name.starts_with(TEXT_LOG) {
            fs::remove_file(entry.path())?;
            continue;
        }
        let file = File::open(entry.path())?;
        file.sync_all()?;
        files.push(CheckpointFile {
            name,
            size_bytes: file.metadata()?.len(),
        });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// Reads a checkpoint's manifest and sees that every file is there in full length: the kind of its engine, and what it holds.
pub(crate) fn inspect(directory: &Path) -> Result<(String, CheckpointMeta), StoreError> {
    let torn = |what: String| StoreError::Corrupt(format!("{} is not a whole checkpoint: {what}", directory.display()));
    let bytes =
        fs::read(directory.join(MANIFEST)).map_err(|error| torn(format!("its manifest cannot be read: {error}")))?;
    let (body, crc) = bytes
        .split_last_chunk::<4>()
        .ok_or_else(|| torn("its manifest is too short".to_owned()))?;
    if *crc != crc32fast::hash(body).to_be_bytes() {
        return Err(torn("its manifest's CRC does not match".to_owned()));
    }
    let manifest = CheckpointManifest::decode(Bytes::copy_from_slice(body)).map_err(|error| torn(error.to_string()))?;
    if manifest.format > FORMAT {
        return Err(StoreError::Unknown(format!(
            "the checkpoint {} has format {}",
            directory.display(),
            manifest.format
        )));
    }
    for file in &manifest.files {
        let size = fs::metadata(directory.join(&file.name)).map(|metadata| metadata.len());
        match size {
            Ok(size) if size == file.size_bytes => {}
            Ok(size) => return Err(torn(format!("{} has {size} of {} bytes", file.name, file.size_bytes))),
            Err(error) => return Err(torn(format!("{}: {error}", file.name))),
        }
    }
    let CheckpointManifest {
        engine,
        applied_index,
        log_id,
        membership,
        revision,
        feature_level,
        ..
    } = manifest;
    Ok((
        engine,
        CheckpointMeta {
            applied_index,
            log_id,
            membership,
            revision,
            feature_level: FeatureLevel::new(feature_level),
            state_hash: Bytes::new(),
        },
    ))
}

/// Inspects a checkpoint that is to be installed into an engine of that kind.
pub(crate) fn inspect_for(directory: &Path, kind: &str) -> Result<CheckpointMeta, StoreError> {
    let (found, meta) = inspect(directory)?;
    if found != kind {
        let cause = format!("it was written by the engine {found}, this is {kind}");
        return Err(StoreError::storage(
            format!("installing the checkpoint {}", directory.display()),
            cause,
        ));
    }
    Ok(meta)
}

/// Sees that an engine opened from a checkpoint stands where its manifest says.
pub(crate) fn compare(reader: &dyn Reader, promised: &CheckpointMeta) -> Result<(), StoreError> {
    let found = meta_of(reader)?;
    let same = found.applied_index == promised.applied_index
        && found.log_id == promised.log_id
        && found.revision == promised.revision;
    if same {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!(
        "the checkpoint stands at entry {} (revision {}), its manifest says {} ({})",
        found.applied_index, found.revision, promised.applied_index, promised.revision
    )))
}

/// Forgets the manifest of a checkpoint that is a live state now.
pub(crate) fn remove_manifest(directory: &Path) -> std::io::Result<()> {
    fs::remove_file(directory.join(MANIFEST))
}

/// Takes a checkpoint into memory; its directory goes.
pub(crate) fn install_in_memory(directory: &Path) -> Result<(MemoryEngine, CheckpointMeta), StoreError> {
    let meta = inspect_for(directory, MEMORY)?;
    let engine = MemoryEngine::load(directory)?;
    compare(&engine, &meta)?;
    fs::remove_dir_all(directory)
        .map_err(|error| StoreError::storage(format!("removing the checkpoint {}", directory.display()), error))?;
    Ok((engine, meta))
}

/// Writes a small file; it is durable once its directory is synced.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a small file, whole or not at all as far as a kill goes; not synced.
pub(crate) fn write_replaced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(&new, path)
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory a path lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
