//! One log entry on disk. Key: `e`, index (8 bytes, big-endian). Value: format version (1 byte), CRC-32 over index and body (4 bytes,
//! little-endian), body (a protobuf `LogEntry`). The CRC covers the index, so that an entry under another's key is noticed too.

use bytes::{Buf, Bytes};
use prost::Message;

use crate::codec;
use crate::types::Entry;

/// Version of the value's layout.
const FORMAT_VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;
const ENTRY_PREFIX: u8 = b'e';

/// The last vote.
pub(super) const VOTE_KEY: &[u8] = b"m/vote";
/// The last log id that was purged.
pub(super) const PURGED_KEY: &[u8] = b"m/purged";
/// The last log id known to be committed; may lag.
pub(super) const COMMITTED_KEY: &[u8] = b"m/committed";

/// Bytes on disk that are not the entry they should be.
#[derive(Debug, thiserror::Error)]
#[error("log entry {index} is damaged: {what}")]
pub(crate) struct DamagedEntry {
    index: u64,
    what: String,
}

/// Where an entry stands.
pub(super) fn key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY_PREFIX; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The index an entry's key holds; `None`: not an entry's key.
pub(super) fn index_of(key: &[u8]) -> Option<u64> {
    let (prefix, index) = key.split_first()?;
    (*prefix == ENTRY_PREFIX)
        .then(|| index.try_into().ok().map(u64::from_be_bytes))
        .flatten()
}

fn checksum(index: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&index.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let message = codec::entry_to_proto(entry);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + message.encoded_len());
    bytes.extend_from_slice(&[FORMAT_VERSION, 0, 0, 0, 0]);
    message.encode(&mut bytes).expect("a vector grows as needed");
    let checksum = checksum(entry.log_id.index, &bytes[HEADER_BYTES..]);
    bytes[1..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(super) fn decode(index: u64, mut bytes: Bytes) -> Result<Entry, DamagedEntry> {
    let damaged = |what: String| DamagedEntry { index, what };
    if bytes.len() < HEADER_BYTES {
        return Err(damaged(format!("{} bytes are too few", bytes.len())));
    }
    let version = bytes.get_u8();
    if version != FORMAT_VERSION {
        return Err(damaged(format!(
            "format {version} is not known to this version of Blox"
        )));
    }
    let expected = bytes.get_u32_le();
    let found = checksum(index, &bytes);
    if found != expected {
        return Err(damaged(format!("its checksum is {found:08x}, not {expected:08x}")));
    }
    let entry = codec::decode_entry(bytes).map_err(|error| damaged(error.to_string()))?;
    if entry.log_id.index != index {
        return Err(damaged(format!("it says it is entry {}", entry.log_id.index)));
    }
    Ok(entry)
}

/// About what an entry takes in memory and on disk, bytes.
pub(super) fn size(entry: &Entry) -> usize {
    const OVERHEAD_BYTES: usize = 64;
    let payload = match &entry.payload {
        crate::types::EntryPayload::Blank => 0,
        crate::types::EntryPayload::Normal(commands) => commands.0.len(),
        crate::types::EntryPayload::Membership(membership) => codec::membership_to_proto(membership).encoded_len(),
    };
    OVERHEAD_BYTES + payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Commands, EntryPayload, log_id};

    fn entry() -> Entry {
        Entry {
            log_id: log_id(2, 7),
            payload: EntryPayload::Normal(Commands(Bytes::from_static(b"abc"))),
        }
    }

    /// The layout on disk must never change.
    #[test]
    fn golden_bytes() {
        let hex: String = encode(&entry()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex[..2], "01");
        assert_eq!(&hex[10..], "080210071a03616263");
        assert_eq!(key(258), *b"e\0\0\0\0\0\0\x01\x02");
        assert_eq!(index_of(&key(258)), Some(258));
        assert_eq!(index_of(VOTE_KEY), None);
    }

    /// One flipped bit anywhere, or the bytes of another index, are noticed.
    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(&entry());
        assert_eq!(decode(7, bytes.clone().into()).expect("our own bytes"), entry());
        assert!(decode(8, bytes.clone().into()).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(7, damaged.into()).is_err(), "bit {bit}");
        }
    }
}
