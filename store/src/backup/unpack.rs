//! Reading a backup: every CRC is checked, and only a file with its trailer is taken for whole.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::format::{RecordKind, RecordReader};
use super::{BackupError, BackupSummary};
use crate::checkpoint::{is_plain_name, sync_directory};
use crate::feature_level::FeatureLevel;
use crate::proto::{BackupHeader, BackupTrailer, CheckpointFile};

/// Read ahead, bytes.
const READ_BYTES: usize = 1 << 20;

/// A backup whose files stand in a directory.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// What it says of itself.
    pub summary: BackupSummary,
    /// The checkpoint, durable: [`crate::Store::install`] takes it.
    pub checkpoint: PathBuf,
}

/// Reads all of a backup and checks it. `progress` is told how many bytes were read. Blocking.
pub fn verify(path: &Path, progress: impl FnMut(u64)) -> Result<BackupSummary, BackupError> {
    read(path, None, progress)
}

/// Reads all of a backup, checks it, and puts its files into `directory`, which must not exist yet. Blocking.
pub fn unpack(path: &Path, directory: &Path, progress: impl FnMut(u64)) -> Result<Unpacked, BackupError> {
    fs::create_dir(directory).map_err(BackupError::io("creating", directory))?;
    let summary = read(path, Some(directory), progress)?;
    sync_directory(directory).map_err(BackupError::io("syncing", directory))?;
    Ok(Unpacked {
        summary,
        checkpoint: directory.to_owned(),
    })
}

fn read(path: &Path, target: Option<&Path>, mut progress: impl FnMut(u64)) -> Result<BackupSummary, BackupError> {
    let file = File::open(path).map_err(BackupError::io("opening the backup", path))?;
    let mut records = RecordReader::begin(BufReader::with_capacity(READ_BYTES, file), path)?;
    let header = header(&mut records, path)?;
    for file in &header.files {
        read_file(&mut records, file, target, &mut progress)?;
    }
    let hash = trailer(&mut records, &header)?;
    records.end()?;
    progress(records.offset());
    let state_hash = header.state_hash.as_ref().try_into().map(u128::from_be_bytes);
    Ok(BackupSummary {
        cluster_id: header.cluster_id,
        node: header.node,
        version: header.version,
        created_at_ms: header.created_at_ms,
        applied_index: header.applied_index,
        revision: header.revision,
        feature_level: FeatureLevel::new(header.feature_level),
        state_hash: state_hash.unwrap_or_default(),
        bytes: records.offset(),
        hash,
    })
}

fn header<Source: Read>(records: &mut RecordReader<Source>, path: &Path) -> Result<BackupHeader, BackupError> {
    records.enter("its header");
    let header = match records.next()? {
        (RecordKind::Header, payload) => decode::<BackupHeader>(records, payload)?,
        (kind, _) => return Err(records.damaged(format!("a {kind:?} stands where the header should"))),
    };
    let level = FeatureLevel::new(header.feature_level);
    if level > FeatureLevel::NEWEST {
        return Err(BackupError::Newer {
            path: path.to_owned(),
            what: format!(
                "feature level {level} (written by version {}), this program knows up to {}",
                header.version,
                FeatureLevel::NEWEST
            ),
        });
    }
    Ok(header)
}

fn read_file<Source: Read>(
    records: &mut RecordReader<Source>,
    named: &CheckpointFile,
    target: Option<&Path>,
    progress: &mut impl FnMut(u64),
) -> Result<(), BackupError> {
    records.enter(format!("the state's file {}", named.name));
    if !is_plain_name(&named.name) {
        return Err(records.damaged("that is not the name of a checkpoint's file".to_owned()));
    }
    let path = target.map(|target| target.join(&named.name));
    let mut output = match &path {
        Some(path) => Some((
            File::options()
                .write(true)
                .create_new(true)
                .open(path)
                .map_err(BackupError::io("creating", path))?,
            path,
        )),
        None => None,
    };
    let (mut crc, mut bytes) = (crc32fast::Hasher::new(), 0);
    loop {
        match records.next()? {
            (RecordKind::Chunk, chunk) => {
                crc.update(&chunk);
                bytes += chunk.len() as u64;
                if let Some((file, path)) = &mut output {
                    file.write_all(&chunk).map_err(BackupError::io("writing", path))?;
                }
                progress(records.offset());
            }
            (RecordKind::FileEnd, sum) => {
                if bytes != named.size_bytes || *sum != crc.finalize().to_be_bytes() {
                    let what = format!(
                        "{bytes} bytes were read of {}, or others than were written",
                        named.size_bytes
                    );
                    return Err(records.damaged(what));
                }
                break;
            }
            (kind, _) => return Err(records.damaged(format!("a {kind:?} stands within the file"))),
        }
    }
    match output {
        Some((file, path)) => file.sync_all().map_err(BackupError::io("syncing", path)),
        None => Ok(()),
    }
}

/// Checks the trailer; gives the hash of what is before it.
fn trailer<Source: Read>(records: &mut RecordReader<Source>, header: &BackupHeader) -> Result<u128, BackupError> {
    records.enter("its trailer");
    let hash = records.hash();
    let trailer = match records.next()? {
        (RecordKind::Trailer, payload) => decode::<BackupTrailer>(records, payload)?,
        (kind, _) => return Err(records.damaged(format!("a {kind:?} stands where the trailer should"))),
    };
    let bytes: u64 = header.files.iter().map(|file| file.size_bytes).sum();
    let whole = trailer.files as usize == header.files.len() && trailer.bytes == bytes;
    if !whole || *trailer.hash != hash.to_be_bytes() {
        return Err(records.damaged("it does not fit to what is before it".to_owned()));
    }
    Ok(hash)
}

fn decode<T: Message + Default>(records: &RecordReader<impl Read>, payload: Bytes) -> Result<T, BackupError> {
    T::decode(payload).map_err(|error| records.damaged(error.to_string()))
}
