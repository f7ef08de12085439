//! The engine of simulations: everything in memory, snapshots by structural sharing, a checkpoint in one file.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::RwLock;
use rpds::RedBlackTreeMapSync;

use super::{Engine, Family, Pair, Reader, ScanLimit, Write};
use crate::store::StoreError;

/// The only file of a checkpoint.
const FILE_NAME: &str = "memory-state";
/// First bytes of that file; the last one is its format.
const MAGIC: &[u8; 8] = b"bloxmem\x01";
/// The CRC at its end.
const CRC_BYTES: usize = 4;

type Families = [RedBlackTreeMapSync<Bytes, Bytes>; Family::ALL.len()];

/// See the module.
#[derive(Default)]
pub(crate) struct MemoryEngine {
    families: RwLock<Families>,
    /// As they were flushed last.
    flushed: RwLock<Families>,
}

impl MemoryEngine {
    /// Reads what [`Engine::write_checkpoint`] wrote.
    pub fn load(directory: &Path) -> Result<MemoryEngine, StoreError> {
        let path = directory.join(FILE_NAME);
        let bytes =
            std::fs::read(&path).map_err(|error| StoreError::storage(format!("reading {}", path.display()), error))?;
        let corrupt = |what: &str| StoreError::Corrupt(format!("{}: {what}", path.display()));
        let (body, crc) = bytes
            .split_at_checked(bytes.len().saturating_sub(CRC_BYTES))
            .ok_or_else(|| corrupt("too short"))?;
        if crc != crc32fast::hash(body).to_be_bytes() {
            return Err(corrupt("its CRC does not match: the checkpoint is torn or damaged"));
        }
        let mut rest = Bytes::copy_from_slice(
            body.strip_prefix(MAGIC.as_slice())
                .ok_or_else(|| corrupt("not such a file"))?,
        );
        let mut families = Families::default();
        for family in &mut families {
            let count = rest.try_get_u64().map_err(|_| corrupt("ends early"))?;
            for _ in 0..count {
                let key = take(&mut rest).ok_or_else(|| corrupt("ends early"))?;
                let value = take(&mut rest).ok_or_else(|| corrupt("ends early"))?;
                family.insert_mut(key, value);
            }
        }
        Ok(MemoryEngine {
            flushed: RwLock::new(families.clone()),
            families: RwLock::new(families),
        })
    }
}

fn take(rest: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(rest.try_get_u32().ok()?).ok()?;
    (rest.len() >= length).then(|| rest.split_to(length))
}

fn scan(families: &Families, family: Family, from: &[u8], until: &[u8], limit: ScanLimit) -> Vec<Pair> {
    let end = if until.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(until)
    };
    if !until.is_empty() && from >= until {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut bytes = 0;
    for (key, value) in families[family as usize].range::<[u8], _>((Bound::Included(from), end)) {
        bytes += key.len() + value.len();
        found.push((key.clone(), value.clone()));
        if found.len() >= limit.count || bytes >= limit.bytes {
            break;
        }
    }
    found
}

impl Reader for MemoryEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.families.read()[family as usize].get(key).cloned())
    }

    fn scan(&self, family: Family, from: &[u8], until: &[u8], limit: ScanLimit) -> Result<Vec<Pair>, StoreError> {
        Ok(scan(&self.families.read(), family, from, until, limit))
    }
}

struct MemorySnapshot {
    families: Families,
}

impl Reader for MemorySnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.families[family as usize].get(key).cloned())
    }

    fn scan(&self, family: Family, from: &[u8], until: &[u8], limit: ScanLimit) -> Result<Vec<Pair>, StoreError> {
        Ok(scan(&self.families, family, from, until, limit))
    }
}

impl Engine for MemoryEngine {
    fn snapshot(self: Arc<Self>) -> Arc<dyn Reader> {
        Arc::new(MemorySnapshot {
            families: self.families.read().clone(),
        })
    }

    fn in_memory(&self) -> Box<dyn Reader + '_> {
        Box::new(self)
    }

    fn write(&self, batch: &[Write]) -> Result<(), StoreError> {
        let mut families = self.families.write();
        for write in batch {
            let family = &mut families[write.family as usize];
            match &write.value {
                Some(value) => family.insert_mut(write.key.clone(), value.clone()),
                None => {
                    family.remove_mut(&write.key);
                }
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        *self.flushed.write() = self.families.read().clone();
        Ok(())
    }

    fn after_power_cut(&self) -> Option<Arc<dyn Engine>> {
        let families = self.flushed.read().clone();
        Some(Arc::new(MemoryEngine {
            flushed: RwLock::new(families.clone()),
            families: RwLock::new(families),
        }))
    }

    fn write_checkpoint(&self, directory: &Path) -> Result<(), StoreError> {
        let families = self.families.read().clone();
        let path = directory.join(FILE_NAME);
        let write = || -> std::io::Result<()> {
            std::fs::create_dir(directory)?;
            let mut file = Summed {
                file: BufWriter::new(File::create(&path)?),
                crc: crc32fast::Hasher::new(),
            };
            file.put(MAGIC)?;
            for family in &families {
                file.put(&(family.size() as u64).to_be_bytes())?;
                for (key, value) in family {
                    file.put_sized(key)?;
                    file.put_sized(value)?;
                }
            }
            let crc = file.crc.finalize();
            file.file.write_all(&crc.to_be_bytes())?;
            file.file.flush()
        };
        write().map_err(|error| StoreError::storage(format!("writing the checkpoint {}", path.display()), error))
    }
}

/// A file and the CRC of what was written to it.
struct Summed {
    file: BufWriter<File>,
    crc: crc32fast::Hasher,
}

impl Summed {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.crc.update(bytes);
        self.file.write_all(bytes)
    }

    fn put_sized(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
        self.put(&length.to_be_bytes())?;
        self.put(bytes)
    }
}
