//! The records of one file, followed as RocksDB follows them (`db/log_reader.cc`): where they end, and which writes they hold.

use std::io::{self, Read};

/// Records do not span blocks; their parts do. `db/log_format.h` of RocksDB.
const BLOCK_BYTES: usize = 32 << 10;
/// Checksum, length, kind.
pub(super) const HEADER_BYTES: usize = 7;
/// The same, and the number of the file it was written to.
const REUSE_HEADER_BYTES: usize = 11;
/// Of a batch of writes: sequence number, 8, and count, 4.
const BATCH_HEADER_BYTES: usize = 12;
/// Kinds that only files in reuse have.
const REUSE_KINDS: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// What stands in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The sequence number of its first record; `None`: it has none of its own.
    pub first: Option<u64>,
    /// The one that comes after its last whole record.
    pub next: Option<u64>,
    /// Where something stands that RocksDB does not see as an end; `None`: it finds the end itself.
    pub unseen_end: Option<u64>,
}

/// A batch of writes on its way through a file, of which the beginning is kept: sequence number of its first write, and how many they are.
#[derive(Default)]
struct Batch(Vec<u8>);

impl Batch {
    fn part(&mut self, kind: u8, part: &[u8], found: &mut Found) {
        let (begins, ends) = (matches!(kind, 1 | 2 | 5 | 6), matches!(kind, 1 | 4 | 5 | 8));
        if begins {
            self.0.clear();
        }
        self.0
            .extend(part.iter().take(BATCH_HEADER_BYTES.saturating_sub(self.0.len())));
        if !ends {
            return;
        }
        if let Some((sequence, count)) = self.0.split_first_chunk()
            && let Some(count) = count.first_chunk()
        {
            let sequence = u64::from_le_bytes(*sequence);
            found.first.get_or_insert(sequence);
            found.next = Some(sequence.wrapping_add(u32::from_le_bytes(*count).into()));
        }
    }
}

/// As RocksDB keeps it: over the kind, the number of a file in reuse, and the content.
fn checksum(parts: &[u8]) -> u32 {
    crc32c::crc32c(parts).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Follows records as RocksDB does. In a file in reuse what stands behind the end is what the file was before, and was cut anywhere: zeros there
/// are an end like any other, unless a record of this file comes behind them.
pub(super) fn follow(file: &mut impl Read, number: u64) -> io::Result<Found> {
    let mut found = Found::default();
    let mut in_reuse = None;
    let mut zeros_at = None;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut block_at = 0;
    let mut batch = Batch::default();
    loop {
        block.clear();
        let read = file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        let mut at = 0;
        while let Some(header) = block.get(at..at + HEADER_BYTES) {
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            let kind = header[6];
            let of_reuse = REUSE_KINDS.contains(&kind);
            if in_reuse == Some(true) && BLOCK_BYTES - at < REUSE_HEADER_BYTES {
                // Too little room for a header: what is left of the block is zeros.
                break;
            }
            if (kind, length) == (0, 0) && in_reuse == Some(true) {
                zeros_at.get_or_insert(block_at + at as u64);
                break;
            }
            if (kind, length) == (0, 0) || (of_reuse && in_reuse == Some(false)) {
                found.unseen_end = Some(block_at + at as u64);
                return Ok(found);
            }
            if in_reuse == Some(true) && !of_reuse {
                // Its checksum cannot match.
                return Ok(found);
            }
            in_reuse.get_or_insert(of_reuse);
            let header_bytes = if of_reuse { REUSE_HEADER_BYTES } else { HEADER_BYTES };
            let Some(rest) = block.get(at + HEADER_BYTES..at + header_bytes + length) else {
                // It does not fit into its block: torn.
                return Ok(found);
            };
            if of_reuse && rest.first_chunk() != Some(&(number as u32).to_le_bytes()) {
                // Of what the file was before.
                return Ok(found);
            }
            if zeros_at.is_some() {
                found.unseen_end = zeros_at;
                return Ok(found);
            }
            let end = at + header_bytes + length;
            let covered = block.get(at + HEADER_BYTES - 1..end).unwrap_or_default();
            if header.first_chunk() != Some(&checksum(covered).to_le_bytes()) {
                return Ok(found);
            }
            batch.part(kind, block.get(at + header_bytes..end).unwrap_or_default(), &mut found);
            at = end;
        }
        if read < BLOCK_BYTES {
            found.unseen_end = zeros_at;
            return Ok(found);
        }
        block_at += BLOCK_BYTES as u64;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record of the file of that number, of a kind that files in reuse have: a batch of one write with that sequence number.
    pub(in super::super) fn record(number: u32, sequence: u64, length: usize) -> Vec<u8> {
        let mut batch = [&sequence.to_le_bytes()[..], &1_u32.to_le_bytes()].concat();
        batch.resize(length, 1);
        let covered = [&[5][..], &number.to_le_bytes(), &batch].concat();
        let header = [&checksum(&covered).to_le_bytes()[..], &(length as u16).to_le_bytes()].concat();
        [header, covered].concat()
    }

    /// Blocks, each filled up with zeros: what is left of a value of zeros that stood there before.
    fn blocks<const COUNT: usize>(blocks: [Vec<Vec<u8>>; COUNT]) -> Vec<u8> {
        let filled = blocks.map(|records| {
            let mut block = records.concat();
            block.resize(BLOCK_BYTES, 0);
            block
        });
        filled.concat()
    }

    /// The file that a process was killed in between its end and its being cut to it: behind its records stands what was there before, from
    /// anywhere in the middle of a record on. Zeros are an end there; with more of its own records behind them they are none.
    #[test]
    fn what_a_file_was_before_is_its_end() {
        let (own, before) = (|| record(9, 50, 100), || record(4, 20, 100));
        let ended = Found {
            first: Some(50),
            next: Some(51),
            unseen_end: None,
        };
        let followed = |bytes: Vec<u8>| follow(&mut bytes.as_slice(), 9).expect("memory is read");
        assert_eq!(followed(blocks([vec![own(), own()], vec![before()]])), ended);
        assert_eq!(
            followed(blocks([vec![own(), vec![2; 300]], vec![own()]])),
            ended,
            "no checksum matches"
        );
        assert_eq!(followed(blocks([vec![own(), before()], vec![own()]])), ended);
        assert_eq!(followed(blocks([vec![before()], vec![before()]])), Found::default());
        let hole = Found {
            first: Some(50),
            next: Some(51),
            unseen_end: Some(2 * own().len() as u64),
        };
        assert_eq!(followed(blocks([vec![own(), own()], vec![own()]])), hole);
        let nothing_behind = [own(), own(), vec![0; 500]].concat();
        assert_eq!(followed(nothing_behind), hole);
        // The last bytes of a block have no room for a header.
        let full = record(9, 50, BLOCK_BYTES - 2 * REUSE_HEADER_BYTES + 1);
        assert_eq!(followed(blocks([vec![full], vec![own(), own(), before()]])), ended);
    }
}
