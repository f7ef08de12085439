//! A note of RocksDB's manifest, outside of it: how long it was, and the checksum of that much.
//!
//! The manifest lists the files of a database, as a log of changes. A log that ends early looks like one whose last change was never made:
//! RocksDB would open without tables that had been flushed, whose write-ahead logs are gone already, and serve a state with a hole in it. So
//! after writes the engine notes what the manifest holds, unsynced: the note may lag, never lead. A manifest that is shorter than noted, or
//! another up to there, has lost changes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::checkpoint::write_replaced;
use crate::store::StoreError;

const FILE: &str = "NOTED-MANIFEST";
const CURRENT: &str = "CURRENT";
const PREFIX: &str = "MANIFEST-";

/// What was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    name: String,
    bytes: u64,
    crc32: u32,
}

impl Noted {
    /// One line: name, length, checksum, and the line's own checksum.
    fn line(&self) -> String {
        let body = format!("{} {} {:08x}", self.name, self.bytes, self.crc32);
        format!("{body} {:08x}\n", crc32fast::hash(body.as_bytes()))
    }

    fn parse(text: &str) -> Option<Noted> {
        let (body, own) = text.trim_end().rsplit_once(' ')?;
        if u32::from_str_radix(own, 16).ok()? != crc32fast::hash(body.as_bytes()) {
            return None;
        }
        let mut words = body.split(' ');
        Some(Noted {
            name: words.next()?.to_owned(),
            bytes: words.next()?.parse().ok()?,
            crc32: u32::from_str_radix(words.next()?, 16).ok()?,
        })
    }
}

/// Keeps the note of an open database.
pub(crate) struct ManifestNote {
    directory: PathBuf,
    noted: Noted,
    hasher: crc32fast::Hasher,
}

impl ManifestNote {
    /// Sees that the manifest in `directory` holds what was noted of it. Without a readable note there is nothing to compare with.
    pub fn check(directory: &Path) -> Result<(), StoreError> {
        let text = std::fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let Some(noted) = Noted::parse(&text) else {
            return Ok(());
        };
        let lost = |what: String| StoreError::Corrupt(format!("opening {}: {what}", directory.display()));
        let current = current(directory).map_err(|error| lost(format!("{CURRENT} cannot be read: {error}")))?;
        let later = |name: &str| name.strip_prefix(PREFIX).and_then(|number| number.parse::<u64>().ok());
        match (later(&current), later(&noted.name)) {
            (Some(now), Some(then)) if now > then => return Ok(()),
            (Some(now), Some(then)) if now == then => {}
            _ => return Err(lost(format!("{CURRENT} names {current}, and {} was noted", noted.name))),
        }
        let mut hasher = crc32fast::Hasher::new();
        let read = File::open(directory.join(&current))
            .and_then(|file| hash(&mut file.take(noted.bytes), &mut hasher))
            .map_err(|error| lost(format!("{current} cannot be read: {error}")))?;
        if read == noted.bytes && hasher.finalize() == noted.crc32 {
            return Ok(());
        }
        Err(lost(format!(
            "{current} is not what was noted of its first {} bytes: changes of the files are lost",
            noted.bytes
        )))
    }

    /// Notes what the manifest of the database just opened in `directory` holds.
    pub fn begin(directory: &Path) -> io::Result<ManifestNote> {
        let mut note = ManifestNote {
            directory: directory.to_owned(),
            noted: Noted {
                name: String::new(),
                bytes: 0,
                crc32: 0,
            },
            hasher: crc32fast::Hasher::new(),
        };
        note.look()?;
        Ok(note)
    }

    /// Looks whether the manifest has grown, and notes it. One `stat` where it has not.
    pub fn look(&mut self) -> io::Result<()> {
        let grown = !self.noted.name.is_empty()
            && std::fs::metadata(self.directory.join(&self.noted.name))
                .is_ok_and(|found| found.len() == self.noted.bytes);
        if grown {
            return Ok(());
        }
        let name = current(&self.directory)?;
        if name != self.noted.name {
            self.noted = Noted {
                name,
                bytes: 0,
                crc32: 0,
            };
            self.hasher = crc32fast::Hasher::new();
        }
        let mut file = File::open(self.directory.join(&self.noted.name))?;
        file.seek(SeekFrom::Start(self.noted.bytes))?;
        self.noted.bytes += hash(&mut file, &mut self.hasher)?;
        self.noted.crc32 = self.hasher.clone().finalize();
        write_replaced(&self.directory.join(FILE), self.noted.line().as_bytes())
    }
}

/// The manifest that counts.
fn current(directory: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(directory.join(CURRENT))?;
    Ok(text.trim_end().to_owned())
}

fn hash(input: &mut impl Read, hasher: &mut crc32fast::Hasher) -> io::Result<u64> {
    let mut buffer = [0; 16 << 10];
    let mut read = 0;
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(read),
            count => {
                hasher.update(&buffer[..count]);
                read += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A manifest that grew since the note, and a newer one, are fine; a shorter one, a changed one and an older one are not.
    #[test]
    fn a_manifest_that_lost_changes_is_noticed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let write = |name: &str, bytes: &[u8]| fs::write(path.join(name), bytes).expect("written");
        write(CURRENT, b"MANIFEST-000005\n");
        write("MANIFEST-000005", b"first change");
        ManifestNote::check(path).expect("nothing noted yet");
        let mut note = ManifestNote::begin(path).expect("noted");
        ManifestNote::check(path).expect("as noted");
        write("MANIFEST-000005", b"first change, second change");
        ManifestNote::check(path).expect("it only grew");
        note.look().expect("noted");
        ManifestNote::check(path).expect("as noted");

        for lost in [&b"first change"[..], b"first change, second chance", b""] {
            write("MANIFEST-000005", lost);
            assert!(
                matches!(ManifestNote::check(path), Err(StoreError::Corrupt(_))),
                "{lost:?}"
            );
        }
        write(CURRENT, b"MANIFEST-000009\n");
        ManifestNote::check(path).expect("a newer one was begun since");
        write(CURRENT, b"MANIFEST-000004\n");
        assert!(matches!(ManifestNote::check(path), Err(StoreError::Corrupt(_))));
        write(FILE, b"MANIFEST-000005 12 0000000 0");
        ManifestNote::check(path).expect("a damaged note says nothing");
    }
}
