//! The disk as a whole, without a kernel: what the model says is what is there after a cut.

use std::ffi::OsStr;

use super::names::ROOT;
use super::testing::Scratch;
use super::{Cut, Disk, Durability, Failing, Inode, Maker, NewAttributes, Pages, Refusal};

const MAKER: Maker = Maker {
    user: 65_532,
    group: 65_532,
    mode: 0o640,
};

/// A disk, driven by paths of one or two names.
struct Driver {
    disk: Disk,
    _scratch: Scratch,
}

impl Driver {
    fn new(durability: Durability) -> Driver {
        let scratch = Scratch::new("disk");
        let disk = Disk::make(&scratch.path().join("backing"), durability).expect("made");
        Driver {
            disk,
            _scratch: scratch,
        }
    }

    fn place<'path>(&mut self, path: &'path str) -> (Inode, &'path OsStr) {
        match path.split_once('/') {
            Some((directory, name)) => (self.inode(directory).expect("the directory is there"), name.as_ref()),
            None => (ROOT, path.as_ref()),
        }
    }

    fn inode(&mut self, path: &str) -> Option<Inode> {
        if path.is_empty() {
            return Some(ROOT);
        }
        let (directory, name) = self.place(path);
        let found = self.disk.look_up(directory, name).ok()?.inode;
        self.disk.forget(found, 1);
        Some(found)
    }

    fn directory(&mut self, path: &str) {
        let (directory, name) = self.place(path);
        let made = self.disk.make_directory(directory, name, MAKER).expect("made");
        self.disk.forget(made.inode, 1);
    }

    /// Writes a file anew, which is made where it is not there.
    fn write(&mut self, path: &str, text: &str) {
        let (directory, name) = self.place(path);
        let inode = match self.inode(path) {
            Some(inode) => inode,
            None => self.disk.make_file(directory, name, MAKER).expect("made").inode,
        };
        let empty = NewAttributes {
            bytes: Some(0),
            ..NewAttributes::default()
        };
        self.disk.set(inode, empty).expect("cut short");
        self.with(path, |disk, handle| disk.write(handle, 0, text.as_bytes()))
            .expect("written");
    }

    fn with<T>(&mut self, path: &str, does: impl FnOnce(&mut Disk, u64) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let inode = self.inode(path).expect("it is there");
        let handle = self.disk.open(inode)?;
        let done = does(&mut self.disk, handle);
        self.disk.close(handle);
        done
    }

    fn sync(&mut self, path: &str) -> Result<(), Refusal> {
        self.with(path, Disk::sync)
    }

    fn sync_directory(&mut self, path: &str) {
        self.with(path, Disk::sync_directory).expect("synced");
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Refusal> {
        let (from, to) = (self.place(from), self.place(to));
        self.disk.rename(from, to)
    }

    fn text(&mut self, path: &str) -> Option<String> {
        self.inode(path)?;
        let read = self
            .with(path, |disk, handle| disk.read(handle, 0, 1 << 20))
            .expect("read");
        Some(String::from_utf8_lossy(&read).into_owned())
    }

    fn cut(&mut self, how: Cut) -> super::CutReport {
        let report = self.disk.cut(how).expect("it has power");
        self.disk.restore();
        report
    }
}

/// A file is as it was synced under a name whose directory was; one of the two alone is a file that is gone, or empty.
#[test]
fn name_and_content_are_synced_apart() {
    let mut driver = Driver::new(Durability::Strict);
    for path in ["both", "name", "content", "neither"] {
        driver.write(path, path);
        if path == "both" || path == "name" {
            driver.sync_directory("");
        }
        if path == "both" || path == "content" {
            driver.sync(path).expect("synced");
        }
    }
    let report = driver.cut(Cut::Clean);
    assert_eq!(driver.text("both").as_deref(), Some("both"));
    assert_eq!(driver.text("name").as_deref(), Some(""));
    assert_eq!((driver.text("content"), driver.text("neither")), (None, None));
    assert_eq!((report.files, report.bytes_lost, report.names_lost), (2, 11, 2));
}

/// The same where the disk keeps its journal in order: whatever is synced brings all names made before.
#[test]
fn in_order_any_sync_brings_all_names() {
    let mut driver = Driver::new(Durability::Ordered);
    driver.directory("a");
    driver.write("a/new", "text");
    driver.write("other", "other");
    driver.rename("a/new", "b").expect("renamed");
    driver.sync("other").expect("synced");
    driver.write("later", "later");
    driver.cut(Cut::Clean);
    assert_eq!(driver.text("other").as_deref(), Some("other"));
    assert_eq!(driver.text("b").as_deref(), Some(""));
    assert!(driver.inode("a").is_some() && driver.inode("later").is_none());
}

/// As programs replace a file: written aside, synced, renamed, the directory synced. Without the last step the old one is back, whole.
#[test]
fn a_file_is_replaced_whole() {
    let mut driver = Driver::new(Durability::Strict);
    driver.directory("d");
    driver.sync_directory("");
    for (text, synced) in [("one", true), ("two", true), ("three", false)] {
        driver.write("d/new", text);
        driver.sync("d/new").expect("synced");
        driver.rename("d/new", "d/current").expect("renamed");
        assert_eq!(driver.text("d/current").as_deref(), Some(text));
        if synced {
            driver.sync_directory("d");
        }
    }
    driver.cut(Cut::Clean);
    assert_eq!(driver.text("d/current").as_deref(), Some("two"));
    assert_eq!(driver.inode("d/new"), None);
}

/// Hard links are names of one file; whole directories are renamed; what is open stays readable when its last name is gone.
#[test]
fn links_directories_and_open_files() {
    let mut driver = Driver::new(Durability::Strict);
    driver.directory("building");
    driver.write("table", "rows");
    driver.sync("table").expect("synced");
    let table = driver.inode("table").expect("there");
    let building = driver.inode("building").expect("there");
    let linked = driver.disk.link(table, building, "table".as_ref()).expect("linked");
    assert_eq!((linked.inode, linked.links), (table, 2));
    driver.sync_directory("building");
    driver.rename("building", "snapshot").expect("renamed");
    driver.sync_directory("");
    driver.disk.unlink(ROOT, "table".as_ref()).expect("removed");
    driver.sync_directory("");
    driver.cut(Cut::Clean);
    assert_eq!(driver.text("snapshot/table").as_deref(), Some("rows"));
    assert_eq!(driver.disk.attributes(table).expect("there").links, 1);
    assert!(matches!(
        driver.disk.remove_directory(ROOT, "snapshot".as_ref()),
        Err(Refusal::NotEmpty)
    ));

    let handle = driver.disk.open(table).expect("opened");
    let snapshot = driver.inode("snapshot").expect("there");
    driver.disk.unlink(snapshot, "table".as_ref()).expect("removed");
    assert_eq!(driver.disk.read(handle, 0, 9).expect("open still"), b"rows");
    driver.disk.close(handle);
    driver.disk.remove_directory(ROOT, "snapshot".as_ref()).expect("empty");
    assert_eq!(driver.inode("snapshot"), None);
}

/// Names are refused as on any disk.
#[test]
fn names_are_refused_as_on_any_disk() {
    let mut driver = Driver::new(Durability::Strict);
    driver.directory("d");
    driver.write("f", "");
    let disk = &mut driver.disk;
    let again = disk.make_file(ROOT, "f".as_ref(), MAKER);
    assert!(matches!(again, Err(Refusal::Exists)));
    assert!(matches!(disk.unlink(ROOT, "d".as_ref()), Err(Refusal::IsDirectory)));
    assert!(matches!(
        disk.remove_directory(ROOT, "f".as_ref()),
        Err(Refusal::NotDirectory)
    ));
    assert!(matches!(driver.rename("f", "d"), Err(Refusal::IsDirectory)));
    assert!(matches!(driver.rename("d", "f"), Err(Refusal::NotDirectory)));
    assert!(matches!(driver.rename("nothing", "f"), Err(Refusal::NotFound)));
}

/// From the moment of the cut everything is refused, also what does not write; afterwards what was opened before is useless.
#[test]
fn without_power_everything_is_refused() {
    let mut driver = Driver::new(Durability::Strict);
    driver.write("f", "text");
    driver.sync("f").expect("synced");
    driver.sync_directory("");
    let inode = driver.inode("f").expect("there");
    let handle = driver.disk.open(inode).expect("opened");
    driver.disk.cut(Cut::Clean).expect("it has power");
    let disk = &mut driver.disk;
    assert!(matches!(disk.read(handle, 0, 1), Err(Refusal::Broken)));
    assert!(matches!(disk.sync(handle), Err(Refusal::Broken)));
    assert!(matches!(disk.attributes(ROOT), Err(Refusal::Broken)));
    assert!(matches!(
        disk.make_file(ROOT, "new".as_ref(), MAKER),
        Err(Refusal::Broken)
    ));
    assert!(matches!(disk.cut(Cut::Clean), Err(Refusal::Broken)));
    assert_eq!(disk.counters().refused, 5);
    disk.restore();
    assert!(matches!(disk.write(handle, 0, b"late"), Err(Refusal::Broken)));
    assert_eq!(driver.text("f").as_deref(), Some("text"));
}

/// The sync that was chosen fails, of the files that were chosen; what it was to write is never durable, though the next one succeeds.
#[test]
fn a_chosen_sync_fails() {
    let mut driver = Driver::new(Durability::Strict);
    driver.directory("log");
    driver.write("log/1.log", "kept");
    driver.write("table", "kept");
    driver.disk.sync_all().expect("synced");
    driver.disk.fail_syncs(Some(Failing {
        under: "log/".to_owned(),
        ends: ".log".to_owned(),
        except: String::new(),
        skip: 1,
        count: Some(1),
        pages: Pages::Kept,
        lies: false,
    }));
    driver.sync("log/1.log").expect("the first is let pass");
    driver.write("log/1.log", "lost");
    driver.sync("table").expect("another file");
    assert!(matches!(driver.sync("log/1.log"), Err(Refusal::Broken)));
    driver.sync("log/1.log").expect("only one fails");
    assert_eq!(
        driver.text("log/1.log").as_deref(),
        Some("lost"),
        "it is read until the power is cut"
    );
    let counters = driver.disk.counters();
    assert_eq!(
        (counters.syncs_failed, counters.last_failed.as_deref()),
        (1, Some("log/1.log"))
    );
    driver.cut(Cut::Clean);
    assert_eq!(
        driver.text("log/1.log").as_deref(),
        Some("\0\0\0\0"),
        "its length was synced, its bytes were not"
    );
}

/// What nobody can reach any more takes no room: not in memory, not in the backing folder.
#[test]
fn what_is_gone_is_removed() {
    let mut driver = Driver::new(Durability::Strict);
    for number in 0..50 {
        let path = number.to_string();
        driver.write(&path, "text");
        driver.sync(&path).expect("synced");
        driver.write(&path, "more text");
        let inode = driver.inode(&path).expect("there");
        driver.disk.unlink(ROOT, path.as_str().as_ref()).expect("removed");
        // Made by `make_file`, which counts a reference.
        driver.disk.forget(inode, 1);
    }
    assert_eq!(driver.disk.counters().unsynced_bytes, 0, "nobody can read it");
    let backing = driver._scratch.path().join("backing");
    let files = || std::fs::read_dir(&backing).expect("there").count();
    assert_eq!(files(), 50, "a cut may bring them back");
    driver.sync_directory("");
    assert_eq!(files(), 0);
}

/// Torn: the same seed leaves the same; over many seeds a new file is there and not there, whole, in part, and empty.
#[test]
fn a_torn_disk_follows_its_seed() {
    let torn = |durability, seed| {
        let mut driver = Driver::new(durability);
        driver.write("old", &"o".repeat(9_000));
        driver.disk.sync_all().expect("synced");
        driver.write("new", &"n".repeat(9_000));
        driver.write("newer", "n");
        driver.rename("newer", "newest").expect("renamed");
        let report = driver.cut(Cut::Torn(seed));
        assert_eq!(report.names_lost + report.names_survived, 3);
        let texts = ["old", "new", "newer", "newest"].map(|path| driver.text(path));
        (texts, report)
    };
    for durability in [Durability::Strict, Durability::Ordered] {
        let all: Vec<_> = (0..60).map(|seed| torn(durability, seed)).collect();
        for (seed, (texts, report)) in all.iter().enumerate() {
            assert_eq!(
                (texts, report),
                (&torn(durability, seed as u64).0, &torn(durability, seed as u64).1)
            );
            assert_eq!(
                texts[0].as_ref().map(String::len),
                Some(9_000),
                "what was synced is whole"
            );
            assert!(
                texts[2].is_none() || texts[3].is_none(),
                "seed {seed}: a rename is done or not"
            );
            if durability == Durability::Ordered && texts[3].is_some() {
                assert!(texts[1].is_some(), "seed {seed}: what was made first survives first");
            }
        }
        let lengths = all.iter().map(|(texts, _)| texts[1].as_ref().map(String::len));
        let lengths: std::collections::BTreeSet<_> = lengths.collect();
        assert!(lengths.contains(&None) && lengths.contains(&Some(0)) && lengths.contains(&Some(9_000)));
        assert!(lengths.len() > 4, "{lengths:?}");
    }
}
