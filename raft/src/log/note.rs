//! The durable note: how far the log had been synced, outside the write-ahead log.
//!
//! RocksDB recovers a write-ahead log up to the first damaged record and cannot tell a torn tail (never acknowledged, harmless) from one
//! that was durable and is gone. So the log's writer notes RocksDB's sequence number after each sync, unsynced, in turn into two slots of
//! a file created and synced once: a log that opens below its note has lost what it promised. The note may lag the log (it is not
//! synced), never lead it. A torn slot leaves the other one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Each slot has a sector of its own, so that one torn write damages one slot at most.
const SLOT_BYTES: u64 = 512;
const SLOTS: u64 = 2;
const MAGIC: [u8; 8] = *b"bloxnote";
const RECORD_BYTES: usize = 20;

/// Why a note cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoteError {
    #[error("no valid slot")]
    NoValidSlot,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The open note.
pub(super) struct Note {
    file: File,
    next_slot: u64,
}

impl Note {
    /// Creates the file with both slots at zero, durable when it returns.
    pub(super) fn create(path: &Path) -> io::Result<Note> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.set_len(SLOT_BYTES * SLOTS)?;
        for slot in 0..SLOTS {
            file.write_all_at(&encode(0), slot * SLOT_BYTES)?;
        }
        file.sync_all()?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(Note { file, next_slot: 0 })
    }

    /// Opens the file and says the highest sequence number noted.
    pub(super) fn open(path: &Path) -> Result<(Note, u64), NoteError> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut best: Option<(u64, u64)> = None;
        for slot in 0..SLOTS {
            let mut bytes = [0; RECORD_BYTES];
            if file.read_exact_at(&mut bytes, slot * SLOT_BYTES).is_err() {
                continue;
            }
            if let Some(sequence) = decode(&bytes)
                && best.is_none_or(|(highest, _)| sequence >= highest)
            {
                best = Some((sequence, slot));
            }
        }
        let (sequence, slot) = best.ok_or(NoteError::NoValidSlot)?;
        Ok((
            Note {
                file,
                next_slot: (slot + 1) % SLOTS,
            },
            sequence,
        ))
    }

    /// Notes that everything up to `sequence` is durable. Not synced.
    pub(super) fn write(&mut self, sequence: u64) -> io::Result<()> {
        self.file
            .write_all_at(&encode(sequence), self.next_slot * SLOT_BYTES)
            .map_err(|cause| io::Error::new(cause.kind(), format!("cannot write the log's durable note: {cause}")))?;
        self.next_slot = (self.next_slot + 1) % SLOTS;
        Ok(())
    }
}

fn encode(sequence: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<u64> {
    let (body, checksum) = bytes.split_at(16);
    let valid = body[..8] == MAGIC && checksum == crc32fast::hash(body).to_le_bytes();
    valid
        .then(|| body[8..].try_into().ok().map(u64::from_le_bytes))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The highest note survives reopening, and one damaged slot leaves the one before it; two leave nothing.
    #[test]
    fn one_torn_slot_leaves_the_other() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("note");
        let mut note = Note::create(&path).expect("created");
        for sequence in [3, 9, 27] {
            note.write(sequence).expect("written");
        }
        let (_, highest) = Note::open(&path).expect("two valid slots");
        assert_eq!(highest, 27);

        let file = File::options().write(true).open(&path).expect("opened");
        file.write_all_at(b"torn", 0).expect("damaged the slot that holds 27");
        let (_, highest) = Note::open(&path).expect("one valid slot");
        assert_eq!(highest, 9);
        file.write_all_at(b"torn", SLOT_BYTES).expect("damaged the other");
        assert!(matches!(Note::open(&path), Err(NoteError::NoValidSlot)));
    }

    /// The layout on disk must never change.
    #[test]
    fn golden_bytes() {
        let hex: String = encode(0x0102).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex[..32], "626c6f786e6f74650201000000000000");
    }
}
