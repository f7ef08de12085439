//! The bytes of one file: what the disk holds of it, in a file of the backing folder, and above it in memory the pages that were not synced.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::cut::Loss;
use super::failing::Pages;

/// What is kept in memory of a file, and what the kernel writes at once.
pub const PAGE_BYTES: usize = 4_096;
/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
const SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;
const PAGE: u64 = PAGE_BYTES as u64;

/// A page that the disk does not hold.
struct Page {
    bytes: Box<[u8; PAGE_BYTES]>,
    /// A sync of it failed: it is read, but the next sync takes it for written.
    is_clean: bool,
}

/// How many pages a disk keeps in memory, and may.
pub(super) struct Budget {
    pub pages: usize,
    pub pages_max: usize,
}

/// No page more may be kept.
pub(super) struct Full;

/// See the module.
pub(super) struct Content {
    /// Not there: the disk holds nothing.
    backing: PathBuf,
    /// So long is the file on the disk.
    durable_bytes: u64,
    /// So much of that still shows: the file was cut there since.
    shown_bytes: u64,
    /// So long is the file as processes see it.
    bytes: u64,
    pages: BTreeMap<u64, Page>,
}

impl Content {
    /// Empty, in both views.
    pub fn new(backing: PathBuf) -> Content {
        Content {
            backing,
            durable_bytes: 0,
            shown_bytes: 0,
            bytes: 0,
            pages: BTreeMap::new(),
        }
    }

    /// So long is the file as processes see it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What a power cut would take: bytes, whole pages up to the file's end.
    pub fn unsynced_bytes(&self) -> u64 {
        self.pages.keys().map(|page| self.within(*page) as u64).sum()
    }

    /// A power cut would leave another file.
    pub fn is_unsynced(&self) -> bool {
        !self.pages.is_empty() || self.bytes != self.durable_bytes || self.shown_bytes != self.durable_bytes
    }

    /// As processes see it, from an offset; shorter at the end of the file.
    pub fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let end = self.bytes.min(offset.saturating_add(bytes as u64));
        if offset >= end {
            return Ok(Vec::new());
        }
        let mut read = self.durable(offset, (end - offset) as usize)?;
        for (number, page) in self.pages.range(offset / PAGE..=(end - 1) / PAGE) {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            let of_page = &page.bytes[(from - start) as usize..(to - start) as usize];
            read[(from - offset) as usize..(to - offset) as usize].copy_from_slice(of_page);
        }
        Ok(read)
    }

    /// What shows of the disk's bytes; beyond that zeros.
    fn durable(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        let shown = self.shown_bytes.saturating_sub(offset).min(bytes as u64) as usize;
        if shown > 0 {
            File::open(&self.backing)?.read_exact_at(&mut read[..shown], offset)?;
        }
        Ok(read)
    }

    /// Writes into memory. Nothing is written where not all of it finds room.
    pub fn write(&mut self, offset: u64, data: &[u8], budget: &mut Budget) -> io::Result<Result<(), Full>> {
        if data.is_empty() {
            return Ok(Ok(()));
        }
        let end = offset + data.len() as u64;
        let touched = offset / PAGE..=(end - 1) / PAGE;
        let missing = touched.clone().filter(|number| !self.pages.contains_key(number));
        let missing: Vec<u64> = missing.collect();
        if budget.pages + missing.len() > budget.pages_max {
            return Ok(Err(Full));
        }
        for number in missing {
            let mut bytes = Box::new([0; PAGE_BYTES]);
            bytes.copy_from_slice(&self.durable(number * PAGE, PAGE_BYTES)?);
            self.pages.insert(number, Page { bytes, is_clean: false });
            budget.pages += 1;
        }
        for (number, page) in self.pages.range_mut(touched) {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            page.bytes[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
            // Whatever else stands in the page is written with it.
            page.is_clean = false;
        }
        self.bytes = self.bytes.max(end);
        Ok(Ok(()))
    }

    /// Cuts the file short, or fills it up with zeros.
    pub fn resize(&mut self, bytes: u64, budget: &mut Budget) {
        let beyond = self.pages.split_off(&bytes.div_ceil(PAGE));
        budget.pages -= beyond.len();
        if let Some(page) = self.pages.get_mut(&(bytes / PAGE)) {
            page.bytes[(bytes % PAGE) as usize..].fill(0);
        }
        self.shown_bytes = self.shown_bytes.min(bytes);
        self.bytes = bytes;
    }

    /// Makes it durable as it is, but for pages that are taken for clean.
    pub fn sync(&mut self, budget: &mut Budget) -> io::Result<()> {
        if !self.is_unsynced() {
            return Ok(());
        }
        let file = self.cut_where_it_was()?;
        file.set_len(self.bytes)?;
        for (number, page) in self.pages.iter().filter(|(_, page)| !page.is_clean) {
            file.write_all_at(&page.bytes[..self.within(*number)], number * PAGE)?;
        }
        budget.pages -= self.pages.len();
        self.pages.retain(|_, page| page.is_clean);
        budget.pages += self.pages.len();
        (self.durable_bytes, self.shown_bytes) = (self.bytes, self.bytes);
        Ok(())
    }

    /// A sync fails: what it was to write counts as written.
    pub fn fail(&mut self, pages: Pages, budget: &mut Budget) {
        match pages {
            Pages::Kept => self.pages.values_mut().for_each(|page| page.is_clean = true),
            Pages::Reverted => self.forget(budget),
        }
    }

    /// Drops the pages in memory; the length stays.
    pub fn forget(&mut self, budget: &mut Budget) {
        budget.pages -= self.pages.len();
        self.pages.clear();
    }

    /// The power is cut: processes see what the disk holds.
    pub fn cut(&mut self, budget: &mut Budget) -> Loss {
        let lost = Loss {
            files: self.is_unsynced().into(),
            bytes: self.unsynced_bytes(),
            survived_bytes: 0,
        };
        self.forget(budget);
        (self.bytes, self.shown_bytes) = (self.durable_bytes, self.durable_bytes);
        lost
    }

    /// The power is cut in the middle of writing: some sectors have reached the disk. Where the file was cut short before, that has, too, or nothing.
    pub fn tear(&mut self, random: &mut ChaCha8Rng, budget: &mut Budget) -> io::Result<Loss> {
        let mut lost = Loss {
            files: self.is_unsynced().into(),
            bytes: self.unsynced_bytes(),
            survived_bytes: 0,
        };
        let survivors = self.draw(random);
        let was_cut = self.shown_bytes < self.durable_bytes;
        if !survivors.is_empty() || (was_cut && random.random_bool(0.5)) {
            let file = self.cut_where_it_was()?;
            self.durable_bytes = self.shown_bytes;
            for (number, sector) in survivors {
                let from = sector * SECTOR_BYTES;
                let to = (from + SECTOR_BYTES).min(self.within(number));
                file.write_all_at(&self.pages[&number].bytes[from..to], number * PAGE + from as u64)?;
                self.durable_bytes = self.durable_bytes.max(number * PAGE + to as u64);
                lost.survived_bytes += (to - from) as u64;
            }
            // Before what has survived of a longer file there may be a hole.
            file.set_len(self.durable_bytes)?;
        }
        lost.bytes -= lost.survived_bytes;
        self.cut(budget);
        Ok(lost)
    }

    /// Which sectors have reached the disk: none, all, the first ones, some pages, or some sectors.
    fn draw(&self, random: &mut ChaCha8Rng) -> Vec<(u64, usize)> {
        let dirty = self.pages.iter().filter(|(_, page)| !page.is_clean);
        let sectors = dirty.flat_map(|(number, _)| {
            let sectors = self.within(*number).div_ceil(SECTOR_BYTES).min(SECTORS);
            (0..sectors).map(|sector| (*number, sector))
        });
        let mut sectors: Vec<(u64, usize)> = sectors.collect();
        match random.random_range(0..5) {
            0 => sectors.clear(),
            1 => {}
            2 => sectors.truncate(random.random_range(0..=sectors.len())),
            3 => {
                let mut drawn: Option<(u64, bool)> = None;
                sectors.retain(|(number, _)| match drawn {
                    Some((of, survives)) if of == *number => survives,
                    _ => drawn.insert((*number, random.random_bool(0.5))).1,
                });
            }
            _ => sectors.retain(|_| random.random_bool(0.5)),
        }
        sectors
    }

    /// The file of the backing folder, without what was cut off.
    fn cut_where_it_was(&self) -> io::Result<File> {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.backing)?;
        if self.shown_bytes < self.durable_bytes {
            file.set_len(self.shown_bytes)?;
        }
        Ok(file)
    }

    /// Bytes of a page before the file's end.
    fn within(&self, number: u64) -> usize {
        self.bytes.saturating_sub(number * PAGE).min(PAGE) as usize
    }

    /// Removes what the disk holds of it.
    pub fn remove(mut self, budget: &mut Budget) -> io::Result<()> {
        self.forget(budget);
        match std::fs::remove_file(&self.backing) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::lossy::testing::Scratch;

    fn budget() -> Budget {
        Budget { pages: 0, pages_max: 8 }
    }

    fn written(content: &mut Content, offset: u64, data: &[u8], budget: &mut Budget) {
        let written = content.write(offset, data, budget).expect("the backing file is read");
        assert!(written.is_ok(), "there is room");
    }

    fn all(content: &Content) -> Vec<u8> {
        content.read(0, usize::MAX >> 1).expect("read")
    }

    /// Only what was synced survives a cut, also where it was overwritten, cut short and filled up again since.
    #[test]
    fn a_cut_takes_what_was_not_synced() {
        let (scratch, mut budget) = (Scratch::new("content"), budget());
        let mut content = Content::new(scratch.path().join("1"));
        written(&mut content, 0, b"first", &mut budget);
        content.sync(&mut budget).expect("synced");
        assert_eq!((budget.pages, content.is_unsynced()), (0, false));
        written(&mut content, 3, b"!!and more", &mut budget);
        assert_eq!(
            (all(&content).as_slice(), content.unsynced_bytes()),
            (b"fir!!and more".as_slice(), 13)
        );
        content.resize(2, &mut budget);
        content.resize(4, &mut budget);
        assert_eq!(all(&content), b"fi\0\0");
        let lost = content.cut(&mut budget);
        assert_eq!((lost.files, budget.pages), (1, 0));
        assert_eq!(all(&content), b"first");
        assert_eq!(content.cut(&mut budget).files, 0);
    }

    /// What was cut short and synced is cut on the disk: what lies behind does not come back when the file grows again.
    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let (scratch, mut budget) = (Scratch::new("content"), budget());
        let mut content = Content::new(scratch.path().join("1"));
        written(&mut content, 0, &[7; 3 * PAGE_BYTES], &mut budget);
        content.sync(&mut budget).expect("synced");
        content.resize(PAGE + 1, &mut budget);
        written(&mut content, 2 * PAGE, b"x", &mut budget);
        let expected = [[7; PAGE_BYTES + 1].as_slice(), &[0; PAGE_BYTES - 1], b"x"].concat();
        assert_eq!(all(&content), expected);
        content.sync(&mut budget).expect("synced");
        content.cut(&mut budget);
        assert_eq!(all(&content), expected);
    }

    /// Beyond the bound nothing is written, and what was synced makes room.
    #[test]
    fn memory_is_bounded() {
        let (scratch, mut budget) = (Scratch::new("content"), budget());
        let mut content = Content::new(scratch.path().join("1"));
        written(&mut content, 0, &[1; 8 * PAGE_BYTES], &mut budget);
        let more = content.write(8 * PAGE, b"1", &mut budget).expect("nothing is read");
        assert!(more.is_err() && content.bytes() == 8 * PAGE);
        written(&mut content, 5, b"in place", &mut budget);
        content.sync(&mut budget).expect("synced");
        written(&mut content, 8 * PAGE, b"1", &mut budget);
        assert_eq!(budget.pages, 1);
    }

    /// After a failed sync the next one succeeds and writes nothing of it, unless the page was written to again.
    #[test]
    fn a_failed_sync_is_not_made_good() {
        for pages in [Pages::Kept, Pages::Reverted] {
            let (scratch, mut budget) = (Scratch::new("content"), budget());
            let mut content = Content::new(scratch.path().join("1"));
            written(&mut content, 0, b"old", &mut budget);
            content.sync(&mut budget).expect("synced");
            written(&mut content, 0, b"new", &mut budget);
            written(&mut content, PAGE, b"page", &mut budget);
            content.fail(pages, &mut budget);
            let kept = pages == Pages::Kept;
            assert_eq!(&all(&content)[..3], if kept { b"new" } else { b"old" });
            written(&mut content, 2 * PAGE, b"third", &mut budget);
            content.sync(&mut budget).expect("this one succeeds");
            content.cut(&mut budget);
            let after = all(&content);
            assert_eq!(
                (&after[..3], &after[PAGE_BYTES..PAGE_BYTES + 4]),
                (b"old".as_slice(), [0; 4].as_slice())
            );
            assert_eq!(&after[2 * PAGE_BYTES..], b"third");
        }
    }

    /// Torn: each sector is what it was or what it was to be; the same seed tears the same; over many seeds everything from none to all happens.
    #[test]
    fn torn_sectors_are_old_or_new() {
        let torn = |seed: u64| {
            let (scratch, mut budget) = (Scratch::new("content"), budget());
            let mut content = Content::new(scratch.path().join("1"));
            written(&mut content, 0, &[1; 2 * PAGE_BYTES], &mut budget);
            content.sync(&mut budget).expect("synced");
            written(&mut content, 100, &[2; 3 * PAGE_BYTES], &mut budget);
            let lost = content
                .tear(&mut ChaCha8Rng::seed_from_u64(seed), &mut budget)
                .expect("torn");
            (all(&content), lost)
        };
        let (mut none, mut whole, mut between) = (0, 0, 0);
        for seed in 0..60 {
            let (after, lost) = torn(seed);
            assert_eq!((&after, lost), (&torn(seed).0, torn(seed).1), "seed {seed}");
            for (number, sector) in after.chunks(SECTOR_BYTES).enumerate() {
                let changed = sector.iter().skip(if number == 0 { 100 } else { 0 });
                let old = if number < 2 * SECTORS { 1 } else { 0 };
                let values: std::collections::BTreeSet<u8> = changed.copied().collect();
                assert!(
                    values.len() == 1 && (values.contains(&2) || values.contains(&old)),
                    "seed {seed}, sector {number}"
                );
            }
            assert_eq!(lost.bytes + lost.survived_bytes, (3 * PAGE_BYTES + 100) as u64);
            match lost.survived_bytes {
                0 => none += 1,
                _ if lost.bytes == 0 => whole += 1,
                _ => between += 1,
            }
        }
        assert!(none > 3 && whole > 3 && between > 10, "{none} {whole} {between}");
    }

    /// A file that was cut short before: the cut and what was written behind it reach the disk together or not at all, or the cut alone.
    #[test]
    fn a_torn_file_keeps_the_order_of_its_length() {
        for seed in 0..60 {
            let (scratch, mut budget) = (Scratch::new("content"), budget());
            let mut content = Content::new(scratch.path().join("1"));
            written(&mut content, 0, &[1; PAGE_BYTES], &mut budget);
            content.sync(&mut budget).expect("synced");
            content.resize(0, &mut budget);
            written(&mut content, 0, &[2; 2 * SECTOR_BYTES], &mut budget);
            content
                .tear(&mut ChaCha8Rng::seed_from_u64(seed), &mut budget)
                .expect("torn");
            let after = all(&content);
            let whole = after == [1; PAGE_BYTES];
            assert!(
                whole || (after.len() <= 2 * SECTOR_BYTES && !after.contains(&1)),
                "seed {seed}: {after:?}"
            );
        }
    }
}
