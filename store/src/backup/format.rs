//! Records: how a backup's file is cut, so that damage has a place.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use super::BackupError;

/// First bytes of a backup's file, before the version.
const MAGIC: &[u8; 8] = b"bloxsnap";
/// Version of the layout, one byte.
const VERSION: u8 = 1;
/// Magic and version.
pub(super) const PREFIX_BYTES: u64 = MAGIC.len() as u64 + 1;
/// Kind and length before a record's payload.
const HEAD_BYTES: usize = 5;
/// Its CRC behind it.
const CRC_BYTES: usize = 4;
/// What a record costs beside its payload.
pub(super) const RECORD_OVERHEAD_BYTES: u64 = (HEAD_BYTES + CRC_BYTES) as u64;
/// A piece of a file.
pub(super) const CHUNK_BYTES: usize = 1 << 20;
/// The longest payload that is believed: a header names some thousand files.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RecordKind {
    Header = 1,
    Chunk = 2,
    FileEnd = 3,
    Trailer = 4,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<RecordKind> {
        [Self::Header, Self::Chunk, Self::FileEnd, Self::Trailer]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Magic and version.
pub(super) fn prefix() -> Bytes {
    [MAGIC.as_slice(), &[VERSION]].concat().into()
}

/// One record, ready to be written.
pub(super) fn record(kind: RecordKind, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).expect("payloads are cut to chunks, headers are small");
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + payload.len() + CRC_BYTES);
    bytes.put_u8(kind as u8);
    bytes.put_u32(length);
    bytes.put_slice(payload);
    let crc = crc32fast::hash(&bytes);
    bytes.put_u32(crc);
    bytes.freeze()
}

/// Reads records, and keeps the hash of everything before the last one.
pub(super) struct RecordReader<Source> {
    source: Source,
    path: PathBuf,
    /// Where the next record begins.
    offset: u64,
    /// Of everything before it.
    hasher: Xxh3,
    /// What is being read, for people.
    place: String,
}

impl<Source: Read> RecordReader<Source> {
    /// Begins a file; refuses what is no backup, or a newer one.
    pub fn begin(source: Source, path: &Path) -> Result<RecordReader<Source>, BackupError> {
        let mut reader = RecordReader {
            source,
            path: path.to_owned(),
            offset: 0,
            hasher: Xxh3::new(),
            place: "its first bytes".to_owned(),
        };
        let mut bytes = [0; PREFIX_BYTES as usize];
        let read = reader.fill(&mut bytes)?;
        let (magic, version) = bytes.split_at(MAGIC.len());
        if read < bytes.len() || magic != MAGIC {
            return Err(BackupError::NotABackup { path: reader.path });
        }
        if version != [VERSION] {
            return Err(BackupError::Newer {
                what: format!(
                    "version {} of the file format, this program knows {VERSION}",
                    version[0]
                ),
                path: reader.path,
            });
        }
        reader.offset = PREFIX_BYTES;
        reader.hasher.update(&bytes);
        Ok(reader)
    }

    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Says what is read next, for messages.
    pub fn enter(&mut self, place: impl Into<String>) {
        self.place = place.into();
    }

    /// xxh3-128 of everything read so far.
    pub fn hash(&self) -> u128 {
        self.hasher.digest128()
    }

    /// The next record, and where it begins.
    pub fn next(&mut self) -> Result<(RecordKind, Bytes), BackupError> {
        let mut head = [0; HEAD_BYTES];
        self.fill_whole(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        let Some(kind) = RecordKind::from_byte(kind) else {
            return Err(self.damaged(format!("there is no record of kind {kind}")));
        };
        if length > PAYLOAD_BYTES_MAX {
            return Err(self.damaged(format!("a record of {length} bytes is longer than any that is written")));
        }
        let mut rest = vec![0; length + CRC_BYTES];
        self.fill_whole(&mut rest)?;
        let crc = rest.split_off(length);
        let mut summed = crc32fast::Hasher::new();
        summed.update(&head);
        summed.update(&rest);
        if crc != summed.finalize().to_be_bytes() {
            return Err(self.damaged("the CRC of the record does not match".to_owned()));
        }
        // The trailer holds the hash of what is before it.
        if kind != RecordKind::Trailer {
            for part in [head.as_slice(), &rest, &crc] {
                self.hasher.update(part);
            }
        }
        self.offset += (HEAD_BYTES + length + CRC_BYTES) as u64;
        Ok((kind, rest.into()))
    }

    /// Nothing may follow the trailer.
    pub fn end(&mut self) -> Result<(), BackupError> {
        self.enter("behind its end");
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.damaged("something follows the trailer".to_owned())),
        }
    }

    /// Damage in what is read next.
    pub fn damaged(&self, what: String) -> BackupError {
        BackupError::Damaged {
            path: self.path.clone(),
            offset: self.offset,
            place: self.place.clone(),
            what,
        }
    }

    fn fill_whole(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        let read = self.fill(bytes)?;
        if read == bytes.len() {
            return Ok(());
        }
        Err(BackupError::Cut {
            path: self.path.clone(),
            offset: self.offset,
            place: self.place.clone(),
        })
    }

    /// As many bytes as there are.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, BackupError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.source.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BackupError::io("reading the backup", &self.path)(error)),
            }
        }
        Ok(filled)
    }
}
