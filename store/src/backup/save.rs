//! Writing a backup: a checkpoint on disk, then its files in records.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use super::format::{CHUNK_BYTES, PREFIX_BYTES, RECORD_OVERHEAD_BYTES, RecordKind, prefix, record};
use crate::checkpoint;
use crate::proto::{BackupHeader, BackupTrailer, CheckpointFile};
use crate::store::{CheckpointMeta, Store, StoreError};

/// What the store does not know of its own backup.
#[derive(Clone, Debug)]
pub struct BackupOrigin {
    /// The cluster.
    pub cluster_id: String,
    /// This node.
    pub node: String,
    /// Its version of Blox.
    pub version: String,
    /// Now, milliseconds since the epoch.
    pub created_at_ms: i64,
}

/// A checkpoint that is about to be written out; its directory goes with it.
pub struct Backup {
    header: BackupHeader,
    directory: Scratch,
}

/// A directory of ours, removed when it is dropped.
pub(super) struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(directory = %self.0.display(), %error, "a finished checkpoint cannot be removed; the next start removes it");
        }
    }
}

impl Store {
    /// Takes a checkpoint into `directory`, which must not exist yet and lie on the state's file system, and makes a backup of it. Blocking.
    pub fn backup(&self, directory: &Path, origin: BackupOrigin) -> Result<Backup, StoreError> {
        let scratch = Scratch(directory.to_owned());
        let meta = self.checkpoint(directory)?;
        Backup::of(scratch, meta, origin)
    }
}

impl Backup {
    fn of(directory: Scratch, meta: CheckpointMeta, origin: BackupOrigin) -> Result<Backup, StoreError> {
        let files = checkpoint::files(&directory.0)
            .map_err(|error| StoreError::storage(format!("listing the checkpoint {}", directory.0.display()), error))?;
        let BackupOrigin {
            cluster_id,
            node,
            version,
            created_at_ms,
        } = origin;
        let header = BackupHeader {
            cluster_id,
            node,
            version,
            created_at_ms,
            applied_index: meta.applied_index,
            revision: meta.revision,
            feature_level: meta.feature_level.number(),
            state_hash: meta.state_hash,
            files,
        };
        Ok(Backup { header, directory })
    }

    /// The revision it holds.
    pub fn revision(&self) -> u64 {
        self.header.revision
    }

    /// How many bytes [`Backup::write`] gives.
    pub fn length(&self) -> u64 {
        let record = |payload: u64| payload + RECORD_OVERHEAD_BYTES;
        let file = |file: &CheckpointFile| {
            let chunks = file.size_bytes.div_ceil(CHUNK_BYTES as u64);
            file.size_bytes + chunks * RECORD_OVERHEAD_BYTES + record(CRC_PAYLOAD_BYTES)
        };
        let files: u64 = self.header.files.iter().map(file).sum();
        let trailer = self.trailer(0).encoded_len() as u64;
        PREFIX_BYTES + record(self.header.encoded_len() as u64) + files + record(trailer)
    }

    /// Gives the whole file to `sink`, piece after piece. Blocking.
    pub fn write(&self, mut sink: impl FnMut(Bytes) -> io::Result<()>) -> io::Result<()> {
        let mut hasher = Xxh3::new();
        let mut put = |bytes: Bytes| {
            hasher.update(&bytes);
            sink(bytes)
        };
        put(prefix())?;
        put(record(RecordKind::Header, &self.header.encode_to_vec()))?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        for named in &self.header.files {
            let mut file = File::open(self.directory.0.join(&named.name))?;
            let (mut crc, mut left) = (crc32fast::Hasher::new(), named.size_bytes);
            while left > 0 {
                chunk.clear();
                let wanted = left.min(CHUNK_BYTES as u64);
                let read = Read::by_ref(&mut file).take(wanted).read_to_end(&mut chunk)? as u64;
                if read < wanted {
                    return Err(io::Error::other(format!("{} became shorter", named.name)));
                }
                left -= read;
                crc.update(&chunk);
                put(record(RecordKind::Chunk, &chunk))?;
            }
            put(record(RecordKind::FileEnd, &crc.finalize().to_be_bytes()))?;
        }
        let hash = hasher.digest128();
        sink(record(RecordKind::Trailer, &self.trailer(hash).encode_to_vec()))
    }

    fn trailer(&self, hash: u128) -> BackupTrailer {
        BackupTrailer {
            files: self.header.files.len() as u32,
            bytes: self.header.files.iter().map(|file| file.size_bytes).sum(),
            hash: Bytes::copy_from_slice(&hash.to_be_bytes()),
        }
    }
}

/// A file-end record's payload.
const CRC_PAYLOAD_BYTES: u64 = 4;
