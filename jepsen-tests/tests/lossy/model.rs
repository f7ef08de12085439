//! One thing after the other, and what must be there afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use blox_jepsen_tests::lossy::{Cut, Failing, Pages};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::{Mounted, SERVICE, holds, tried};

/// User and group of a node's process.
const USER: u32 = 65_532;

fn sync_directory(path: &Path) -> Result<(), String> {
    tried(
        "syncing a directory",
        File::open(path).and_then(|directory| directory.sync_all()),
    )
}

fn write(path: &Path, text: &str) -> Result<File, String> {
    let mut file = tried("creating", File::create(path))?;
    tried("writing", file.write_all(text.as_bytes()))?;
    Ok(file)
}

fn synced(path: &Path, text: &str) -> Result<(), String> {
    tried("syncing", write(path, text)?.sync_all())
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn is_broken<T>(done: std::io::Result<T>) -> bool {
    done.is_err_and(|error| error.raw_os_error() == Some(Errno::EIO as i32))
}

/// Created, written, synced, renamed, linked, removed; the power is cut; what is there is what was synced, by the letter.
pub fn a_cut() -> Result<(), String> {
    let mounted = Mounted::new("cut")?;
    let data = mounted.data();
    let at = |name: &str| data.join(name);
    synced(&at("whole"), "whole")?;
    synced(&at("renamed from"), "renamed")?;
    write(&at("named only"), "its content is not synced")?;
    synced(&at("removed"), "removed")?;
    tried("making a directory", fs::create_dir(at("inner")))?;
    synced(&at("inner/deep"), "deep")?;
    sync_directory(&at("inner"))?;
    sync_directory(&data)?;
    synced(&at("content only"), "its name is not synced")?;
    let mut appended = tried("opening", OpenOptions::new().append(true).open(at("whole")))?;
    tried("appending", appended.write_all(b", and more"))?;
    tried("renaming", fs::rename(at("renamed from"), at("renamed to")))?;
    tried("removing", fs::remove_file(at("removed")))?;
    tried("linking", fs::hard_link(at("whole"), at("linked")))?;
    synced(&at("inner/later"), "later")?;
    holds(
        "it is seen before it is synced",
        text(&at("linked")).as_deref() == Some("whole, and more"),
    )?;
    let before = mounted.wait(mounted.disks.counters(SERVICE))?;
    holds(
        "what is not synced is counted",
        before.unsynced_files == 2 && before.unsynced_names >= 5,
    )?;

    let report = mounted.wait(mounted.disks.cut(SERVICE, Cut::Clean))?;
    holds(
        &format!("the cut says what it took: {report:?}"),
        report.files == 2 && report.names_lost >= 5,
    )?;
    holds("writing is refused", is_broken(appended.write_all(b"late")))?;
    holds("syncing is refused", is_broken(appended.sync_all()))?;
    holds("opening is refused", is_broken(File::open(at("whole"))))?;
    holds(
        "looking is refused",
        is_broken(fs::metadata(&data)) && is_broken(fs::read_dir(&data)),
    )?;
    holds("the disk says so", mounted.wait(mounted.disks.refuses(SERVICE))?)?;
    mounted.wait(mounted.disks.restore(SERVICE))?;

    holds(
        "what was opened before stays useless",
        is_broken(appended.write_all(b"late")),
    )?;
    for (name, expected) in [
        ("whole", Some("whole")),
        ("renamed from", Some("renamed")),
        ("renamed to", None),
        ("named only", Some("")),
        ("content only", None),
        ("removed", Some("removed")),
        ("linked", None),
        ("inner/deep", Some("deep")),
        ("inner/later", None),
    ] {
        let found = text(&at(name));
        holds(
            &format!("{name} is {expected:?}, found {found:?}"),
            found.as_deref() == expected,
        )?;
    }
    let links = tried("looking", fs::metadata(at("whole")))?.nlink();
    holds("the link is not counted", links == 1)?;
    let owner = tried("looking", fs::metadata(&data))?.uid();
    holds("the owner is as it was set up", owner == USER)?;
    let listed = tried("listing", fs::read_dir(&data))?.flatten().count();
    holds(&format!("five names, found {listed}"), listed == 5)
}

/// What RocksDB and Blox do with files beside that, by the node's own user.
pub fn operations() -> Result<(), String> {
    let mounted = Mounted::new("operations")?;
    let data = mounted.data();
    let at = |name: &str| data.join(name);
    let script = "set -e; umask 027; mkdir d; echo text > d/f; chmod 600 d/f; mv d e; [ \"$(cat e/f)\" = text ]; ! cat /proc/1/environ 2>/dev/null";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(&data).uid(USER).gid(USER);
    holds("a node's user can work there", tried("sh", shell.status())?.success())?;
    let made = tried("looking", fs::metadata(at("e/f")))?;
    holds(
        "files are of who made them",
        (made.uid(), made.gid(), made.mode() & 0o777) == (USER, USER, 0o600),
    )?;

    let file = tried(
        "opening",
        File::options().read(true).write(true).create_new(true).open(at("file")),
    )?;
    tried("writing far behind", file.write_all_at(b"end", 1 << 20))?;
    tried("writing across pages", file.write_all_at(&[7; 10_000], 3_000))?;
    tried("cutting short", file.set_len(9_000))?;
    let mut whole = Vec::new();
    tried("reading", (&file).read_to_end(&mut whole))?;
    let expected = [vec![0; 3_000], vec![7; 6_000]].concat();
    holds("a hole is zeros, and what was cut off is gone", whole == expected)?;
    let allocate = |mode, length| fallocate(&file, mode, 0, length);
    holds(
        "room behind the end",
        allocate(FallocateFlags::FALLOC_FL_KEEP_SIZE, 1 << 20).is_ok(),
    )?;
    holds("a longer file", allocate(FallocateFlags::empty(), 9_500).is_ok())?;
    let punched = allocate(
        FallocateFlags::FALLOC_FL_KEEP_SIZE | FallocateFlags::FALLOC_FL_PUNCH_HOLE,
        4_096,
    );
    holds("holes are not punched", punched == Err(Errno::EOPNOTSUPP))?;
    holds("its length", tried("looking", file.metadata())?.len() == 9_500)?;
    tried("syncing data", file.sync_data())?;

    let mut appending = tried("opening", OpenOptions::new().append(true).open(at("file")))?;
    tried("appending", appending.write_all(b"one"))?;
    tried("appending", appending.write_all(b"two"))?;
    let mut last = [0; 6];
    tried("reading", file.read_exact_at(&mut last, 9_500))?;
    holds("it is appended", &last == b"onetwo")?;
    let other = tried("opening", File::open(at("file")))?;
    tried("locking", file.try_lock().map_err(std::io::Error::other))?;
    holds("a lock is held", other.try_lock().is_err())?;
    tried("unlocking", file.unlock())?;

    tried("copying", fs::copy(at("file"), at("copy")))?;
    holds(
        "a copy is the same",
        fs::read(at("copy")).ok() == fs::read(at("file")).ok(),
    )?;
    let mut open = tried("opening", File::open(at("copy")))?;
    tried("removing", fs::remove_file(at("copy")))?;
    tried("seeking", open.seek(SeekFrom::Start(9_500)))?;
    let mut rest = String::new();
    tried("reading what is removed", open.read_to_string(&mut rest))?;
    holds("what is open stays", rest == "onetwo")?;
    holds("a full directory is not replaced", fs::remove_dir(at("e")).is_err())?;

    tried("making a directory", fs::create_dir(at("many")))?;
    for number in 0..500 {
        write(&at(&format!("many/a file with a longer name, number {number}")), "")?;
    }
    let mut listed: Vec<_> = tried("listing", fs::read_dir(at("many")))?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    listed.sort();
    listed.dedup();
    holds(&format!("every name once, found {}", listed.len()), listed.len() == 500)?;
    tried("removing all", fs::remove_dir_all(at("many")))?;
    let room = tried("statvfs", nix::sys::statvfs::statvfs(&data).map_err(Into::into))?;
    holds(
        "there is room",
        room.blocks_available() > 0 && room.blocks_available() < room.blocks(),
    )
}

/// A sync fails that was chosen; the next one succeeds, and has lost what the first was to write.
pub fn a_failed_sync() -> Result<(), String> {
    let mounted = Mounted::new("sync")?;
    let data = mounted.data();
    for (pages, seen) in [(Pages::Kept, "new"), (Pages::Reverted, "old")] {
        let (log, table) = (data.join("1.log"), data.join("1.sst"));
        synced(&log, "old")?;
        synced(&table, "old")?;
        sync_directory(&data)?;
        let failing = Failing {
            under: "data/".to_owned(),
            ends: ".log".to_owned(),
            except: String::new(),
            skip: 0,
            count: Some(1),
            pages,
            lies: false,
        };
        mounted.wait(mounted.disks.fail_syncs(SERVICE, Some(failing)))?;
        synced(&table, "new")?;
        let file = tried("opening", File::options().write(true).open(&log))?;
        tried("writing", file.write_all_at(b"new", 0))?;
        holds("the sync fails", is_broken(file.sync_data()))?;
        tried("syncing again", file.sync_data())?;
        let found = text(&log);
        holds(
            &format!("{seen} is read, found {found:?}"),
            found.as_deref() == Some(seen),
        )?;
        mounted.wait(mounted.disks.cut(SERVICE, Cut::Clean))?;
        mounted.wait(mounted.disks.restore(SERVICE))?;
        holds("what failed is lost", text(&log).as_deref() == Some("old"))?;
        holds("what did not is kept", text(&table).as_deref() == Some("new"))?;
    }
    let counters = mounted.wait(mounted.disks.counters(SERVICE))?;
    holds(
        "two failed",
        counters.syncs_failed == 2 && counters.last_failed.as_deref() == Some("data/1.log"),
    )
}

/// Dropped, the disk's process has ended, nothing is mounted, and its folder is gone; also while somebody has a file of it open.
pub fn the_end() -> Result<(), String> {
    let mounted = Mounted::new("end")?;
    let data = mounted.data();
    let is_mounted = || fs::read_to_string("/proc/mounts").is_ok_and(|mounts| mounts.contains("blox-lossy-end"));
    let mut open = write(&data.join("open"), "text")?;
    holds("it is mounted", is_mounted())?;
    drop(mounted);
    holds("it is unmounted", !is_mounted())?;
    holds("its folder is gone", !data.exists())?;
    holds("what is open is broken", open.write_all(b"more").is_err())
}
