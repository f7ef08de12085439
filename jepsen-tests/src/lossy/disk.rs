//! The disk as a whole: its files and directories, its power, the syncs that are to fail, and what it counts. Knows nothing of FUSE.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::content::{Budget, Content, PAGE_BYTES};
use super::counters::Counters;
use super::failing::Failing;
use super::names::{Inode, Names, ROOT};
use super::node::{Attributes, Maker, NewAttributes, Node};

/// So much that is not synced is kept in memory, all files together; what is written beyond is refused as for want of room.
pub const UNSYNCED_BYTES_MAX: usize = 512 << 20;
/// Files and directories, and operations on names that are not synced.
const FILES_MAX: usize = 100_000;
/// What the disk says of its size, bytes. It is not filled up: that is what other disks are for.
const CAPACITY_BYTES: u64 = 64 << 30;
/// Permissions of the top directory.
const ROOT_MODE: u16 = 0o755;

/// Which names are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Those whose directory was synced.
    Strict,
    /// All that were made before anything was synced.
    Ordered,
}

/// The disk does not do as told.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It has no power, or what was opened was opened before it had none.
    #[error("input/output error")]
    Broken,
    /// Its own files fail: no word about whoever asked.
    #[error("the backing folder fails: {0}")]
    Backing(#[from] io::Error),
    /// No such name, or no such file any more.
    #[error("it is not there")]
    NotFound,
    /// The name is taken.
    #[error("it is there already")]
    Exists,
    /// A directory is needed.
    #[error("it is no directory")]
    NotDirectory,
    /// A file is needed.
    #[error("it is a directory")]
    IsDirectory,
    /// The directory holds something.
    #[error("the directory is not empty")]
    NotEmpty,
    /// Of what is not synced, or of files.
    #[error("no room")]
    NoRoom,
}

/// Something that is open.
pub(super) struct Handle {
    inode: Inode,
    /// Of a directory: what it held when it was opened.
    listing: Vec<(OsString, Inode, bool)>,
}

/// See the module.
pub struct Disk {
    pub(super) backing: PathBuf,
    pub(super) durability: Durability,
    pub(super) nodes: BTreeMap<Inode, Node>,
    pub(super) names: Names,
    pub(super) last_inode: Inode,
    pub(super) handles: HashMap<u64, Handle>,
    pub(super) last_handle: u64,
    pub(super) budget: Budget,
    pub(super) has_power: bool,
    pub(super) failing: Option<Failing>,
    pub(super) counters: Counters,
}

impl Disk {
    /// An empty disk. `backing` is a folder that is made, and must hold nothing: what the disk holds of files goes there.
    pub fn make(backing: &Path, durability: Durability) -> io::Result<Disk> {
        std::fs::create_dir_all(backing)?;
        if std::fs::read_dir(backing)?.next().is_some() {
            return Err(io::Error::other(format!("{} is not empty", backing.display())));
        }
        let root = Maker {
            user: 0,
            group: 0,
            mode: ROOT_MODE,
        };
        Ok(Disk {
            backing: backing.to_owned(),
            durability,
            nodes: BTreeMap::from([(ROOT, Node::new(None, root))]),
            names: Names::new(),
            last_inode: ROOT,
            handles: HashMap::new(),
            last_handle: 0,
            budget: Budget {
                pages: 0,
                pages_max: UNSYNCED_BYTES_MAX / PAGE_BYTES,
            },
            has_power: true,
            failing: None,
            counters: Counters::default(),
        })
    }

    /// What a name in a directory stands for. The caller holds one reference more to it, until it [forgets](Disk::forget).
    pub fn look_up(&mut self, directory: Inode, name: &OsStr) -> Result<Attributes, Refusal> {
        self.powered()?;
        let inode = self.names.find(directory, name).ok_or(Refusal::NotFound)?;
        self.refer(inode)
    }

    /// So many references are held no more.
    pub fn forget(&mut self, inode: Inode, references: u64) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.known = node.known.saturating_sub(references);
            self.let_go(inode);
        }
    }

    /// What is known of it.
    pub fn attributes(&mut self, inode: Inode) -> Result<Attributes, Refusal> {
        self.powered()?;
        Ok(self.node(inode)?.attributes(inode))
    }

    /// Sets some of it.
    pub fn set(&mut self, inode: Inode, new: NewAttributes) -> Result<Attributes, Refusal> {
        self.powered()?;
        let node = self.nodes.get_mut(&inode).ok_or(Refusal::NotFound)?;
        if let Some(bytes) = new.bytes {
            let content = node.content.as_mut().ok_or(Refusal::IsDirectory)?;
            content.resize(bytes, &mut self.budget);
            node.shown.modified = SystemTime::now();
        }
        let shown = &mut node.shown;
        shown.mode = new.mode.unwrap_or(shown.mode);
        shown.user = new.user.unwrap_or(shown.user);
        shown.group = new.group.unwrap_or(shown.group);
        shown.accessed = new.accessed.unwrap_or(shown.accessed);
        shown.modified = new.modified.unwrap_or(shown.modified);
        Ok(node.attributes(inode))
    }

    /// Makes an empty file. The caller holds a reference to it.
    pub fn make_file(&mut self, directory: Inode, name: &OsStr, maker: Maker) -> Result<Attributes, Refusal> {
        self.free(directory, name)?;
        let inode = self.next_inode();
        let content = Content::new(self.backing.join(inode.to_string()));
        self.nodes.insert(inode, Node::new(Some(content), maker));
        self.names.put(directory, name, inode);
        self.refer(inode)
    }

    /// Makes an empty directory. The caller holds a reference to it.
    pub fn make_directory(&mut self, directory: Inode, name: &OsStr, maker: Maker) -> Result<Attributes, Refusal> {
        self.free(directory, name)?;
        let inode = self.next_inode();
        self.nodes.insert(inode, Node::new(None, maker));
        self.names.make_directory(inode);
        self.names.put(directory, name, inode);
        self.refer(inode)
    }

    /// One name more for a file. The caller holds one reference more to it.
    pub fn link(&mut self, inode: Inode, directory: Inode, name: &OsStr) -> Result<Attributes, Refusal> {
        self.free(directory, name)?;
        let node = self.nodes.get_mut(&inode).ok_or(Refusal::NotFound)?;
        if node.content.is_none() {
            return Err(Refusal::IsDirectory);
        }
        node.links += 1;
        self.names.put(directory, name, inode);
        self.refer(inode)
    }

    /// Removes the name of a file.
    pub fn unlink(&mut self, directory: Inode, name: &OsStr) -> Result<(), Refusal> {
        self.powered()?;
        let inode = self.names.find(directory, name).ok_or(Refusal::NotFound)?;
        if self.node(inode)?.content.is_none() {
            return Err(Refusal::IsDirectory);
        }
        self.names.remove(directory, name);
        self.unname(inode);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_directory(&mut self, directory: Inode, name: &OsStr) -> Result<(), Refusal> {
        self.powered()?;
        let inode = self.names.find(directory, name).ok_or(Refusal::NotFound)?;
        let entries = self.names.entries(inode).ok_or(Refusal::NotDirectory)?;
        if !entries.is_empty() {
            return Err(Refusal::NotEmpty);
        }
        self.names.remove(directory, name);
        Ok(())
    }

    /// Moves what a name stands for to another name, in place of what that one stood for.
    pub fn rename(&mut self, from: (Inode, &OsStr), to: (Inode, &OsStr)) -> Result<(), Refusal> {
        self.powered()?;
        let inode = self.names.find(from.0, from.1).ok_or(Refusal::NotFound)?;
        self.names.entries(to.0).ok_or(Refusal::NotFound)?;
        let moves_directory = self.node(inode)?.content.is_none();
        let replaced = self.names.find(to.0, to.1);
        if replaced == Some(inode) {
            return Ok(());
        }
        match replaced.map(|replaced| (replaced, self.names.entries(replaced))) {
            Some((_, Some(_))) if !moves_directory => return Err(Refusal::IsDirectory),
            Some((_, None)) if moves_directory => return Err(Refusal::NotDirectory),
            Some((_, Some(entries))) if !entries.is_empty() => return Err(Refusal::NotEmpty),
            _ => {}
        }
        self.names.rename(from, to);
        if let Some(replaced) = replaced.filter(|_| !moves_directory) {
            self.unname(replaced);
        }
        Ok(())
    }

    /// Opens a file or a directory: a number to name it by.
    pub fn open(&mut self, inode: Inode) -> Result<u64, Refusal> {
        self.powered()?;
        self.node(inode)?;
        let entries = self.names.entries(inode).into_iter().flatten();
        let listing = entries.map(|(name, inode)| (name.clone(), *inode, self.names.entries(*inode).is_some()));
        let listing = listing.collect();
        self.last_handle += 1;
        self.handles.insert(self.last_handle, Handle { inode, listing });
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.opened += 1;
        }
        Ok(self.last_handle)
    }

    /// Closes it.
    pub fn close(&mut self, handle: u64) {
        if let Some(Handle { inode, .. }) = self.handles.remove(&handle) {
            if let Some(node) = self.nodes.get_mut(&inode) {
                node.opened = node.opened.saturating_sub(1);
            }
            self.let_go(inode);
        }
    }

    /// What a directory held when it was opened: name, number, whether it is a directory.
    pub fn list(&mut self, handle: u64) -> Result<&[(OsString, Inode, bool)], Refusal> {
        self.powered()?;
        let handle = self.handles.get(&handle).ok_or(Refusal::Broken)?;
        Ok(&handle.listing)
    }

    /// Reads; shorter at the end of the file.
    pub fn read(&mut self, handle: u64, offset: u64, bytes: usize) -> Result<Vec<u8>, Refusal> {
        let inode = self.opened(handle)?;
        let content = self.node(inode)?.content.as_ref().ok_or(Refusal::IsDirectory)?;
        Ok(content.read(offset, bytes)?)
    }

    /// Writes, all or nothing.
    pub fn write(&mut self, handle: u64, offset: u64, data: &[u8]) -> Result<(), Refusal> {
        let inode = self.opened(handle)?;
        let node = self.nodes.get_mut(&inode).ok_or(Refusal::NotFound)?;
        let content = node.content.as_mut().ok_or(Refusal::IsDirectory)?;
        let written = content.write(offset, data, &mut self.budget)?;
        written.map_err(|_| Refusal::NoRoom)?;
        node.shown.modified = SystemTime::now();
        self.counters.writes += 1;
        self.counters.bytes_written += data.len() as u64;
        Ok(())
    }

    /// Sees to it that a file is at least so long.
    pub fn allocate(&mut self, handle: u64, bytes: u64) -> Result<(), Refusal> {
        let inode = self.opened(handle)?;
        let node = self.nodes.get_mut(&inode).ok_or(Refusal::NotFound)?;
        let content = node.content.as_mut().ok_or(Refusal::IsDirectory)?;
        if content.bytes() < bytes {
            content.resize(bytes, &mut self.budget);
        }
        Ok(())
    }

    /// Size of the disk and what is free of it, bytes.
    pub fn room(&mut self) -> Result<(u64, u64), Refusal> {
        self.powered()?;
        let contents = self.nodes.values().filter_map(|node| node.content.as_ref());
        let taken: u64 = contents.map(Content::bytes).sum();
        Ok((CAPACITY_BYTES, CAPACITY_BYTES.saturating_sub(taken)))
    }

    pub(super) fn powered(&mut self) -> Result<(), Refusal> {
        if self.has_power {
            return Ok(());
        }
        self.counters.refused += 1;
        Err(Refusal::Broken)
    }

    /// What is open under this number. What was opened before a power cut is not.
    pub(super) fn opened(&mut self, handle: u64) -> Result<Inode, Refusal> {
        self.powered()?;
        let handle = self.handles.get(&handle).ok_or(Refusal::Broken)?;
        Ok(handle.inode)
    }

    fn node(&self, inode: Inode) -> Result<&Node, Refusal> {
        self.nodes.get(&inode).ok_or(Refusal::NotFound)
    }

    fn refer(&mut self, inode: Inode) -> Result<Attributes, Refusal> {
        let node = self.nodes.get_mut(&inode).ok_or(Refusal::NotFound)?;
        node.known += 1;
        Ok(node.attributes(inode))
    }

    /// A name in this directory can be given.
    fn free(&mut self, directory: Inode, name: &OsStr) -> Result<(), Refusal> {
        self.powered()?;
        if self.nodes.len() >= FILES_MAX || self.names.pending() >= FILES_MAX {
            self.sweep();
        }
        if self.nodes.len() >= FILES_MAX || self.names.pending() >= FILES_MAX {
            return Err(Refusal::NoRoom);
        }
        // A directory that was removed while it is open takes nothing any more.
        let entries = self.names.entries(directory).ok_or(Refusal::NotFound)?;
        match entries.contains_key(name) {
            true => Err(Refusal::Exists),
            false => Ok(()),
        }
    }

    fn next_inode(&mut self) -> Inode {
        self.last_inode += 1;
        self.last_inode
    }

    fn unname(&mut self, inode: Inode) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.links = node.links.saturating_sub(1);
            self.let_go(inode);
        }
    }

    /// What nobody can read any more needs no memory, though the disk may hold the file still.
    fn let_go(&mut self, inode: Inode) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        if node.links == 0
            && node.known == 0
            && node.opened == 0
            && let Some(content) = &mut node.content
        {
            content.forget(&mut self.budget);
        }
    }

    /// Removes what no name stands for in either view, and nobody holds.
    pub(super) fn sweep(&mut self) {
        let held = self.names.held();
        self.remove_all_but(|inode, node| held.contains(&inode) || node.known > 0 || node.opened > 0);
    }

    pub(super) fn remove_all_but(&mut self, stays: impl Fn(Inode, &Node) -> bool) {
        let gone = self.nodes.iter().filter(|(inode, node)| !stays(**inode, node));
        let gone: Vec<Inode> = gone.map(|(inode, _)| *inode).collect();
        for inode in gone {
            self.names.forget(inode);
            let content = self.nodes.remove(&inode).and_then(|node| node.content);
            if let Some(Err(error)) = content.map(|content| content.remove(&mut self.budget)) {
                eprintln!("cannot remove {inode} from {}: {error}", self.backing.display());
            }
        }
    }
}
