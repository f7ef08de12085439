//! The disk as the kernel asks for it. Nothing is cached by the kernel but pages of a file while it is open: names and attributes are asked for again
//! each time, so that nothing outlives a power cut.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, SessionACL, TimeOrNow, WriteFlags,
};
use nix::fcntl::FallocateFlags;

use super::content::{PAGE_BYTES, SECTOR_BYTES};
use super::disk::{Disk, Refusal};
use super::names::Inode;
use super::node::{Attributes, Maker, NewAttributes};

/// How long the kernel may take names and attributes for true.
const TRUE_FOR: Duration = Duration::ZERO;
/// As `/proc/mounts` shows it.
const NAME: &str = "blox-lossy-disk";
const NAME_BYTES_MAX: u32 = 255;
/// Numbers are not used twice.
const GENERATION: Generation = Generation(0);
const PERMISSIONS: u32 = 0o7777;

/// Mounts a disk. It is served until the session ends.
pub(super) fn mount(disk: Arc<Mutex<Disk>>, mount: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    // A node is not the user who mounts; permissions are the kernel's concern.
    config.acl = SessionACL::All;
    config.mount_options = vec![MountOption::FSName(NAME.to_owned()), MountOption::DefaultPermissions];
    fuser::spawn_mount(Mounted(disk), mount, &config)
}

struct Mounted(Arc<Mutex<Disk>>);

impl Mounted {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn errno(refusal: &Refusal) -> Errno {
    match refusal {
        Refusal::Broken => Errno::EIO,
        Refusal::Backing(error) => {
            eprintln!("lossy-disk: {refusal}");
            // Nobody may take it for a fault that was asked for.
            error.raw_os_error().map_or(Errno::ENXIO, Errno::from_i32)
        }
        Refusal::NotFound => Errno::ENOENT,
        Refusal::Exists => Errno::EEXIST,
        Refusal::NotDirectory => Errno::ENOTDIR,
        Refusal::IsDirectory => Errno::EISDIR,
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        Refusal::NoRoom => Errno::ENOSPC,
    }
}

fn file_attributes(attributes: &Attributes) -> FileAttr {
    let pages = attributes.bytes.div_ceil(PAGE_BYTES as u64);
    FileAttr {
        ino: INodeNo(attributes.inode),
        size: attributes.bytes,
        blocks: pages * (PAGE_BYTES / SECTOR_BYTES) as u64,
        atime: attributes.accessed,
        mtime: attributes.modified,
        ctime: attributes.modified,
        crtime: attributes.modified,
        kind: kind(attributes.is_directory),
        perm: attributes.mode,
        nlink: attributes.links,
        uid: attributes.user,
        gid: attributes.group,
        rdev: 0,
        blksize: PAGE_BYTES as u32,
        flags: 0,
    }
}

fn kind(is_directory: bool) -> FileType {
    match is_directory {
        true => FileType::Directory,
        false => FileType::RegularFile,
    }
}

fn maker(request: &Request, mode: u32, umask: u32) -> Maker {
    Maker {
        user: request.uid(),
        group: request.gid(),
        mode: permissions(mode & !umask),
    }
}

fn permissions(mode: u32) -> u16 {
    (mode & PERMISSIONS) as u16
}

fn time(wanted: TimeOrNow) -> SystemTime {
    match wanted {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

fn empty(done: Result<(), Refusal>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(refusal) => reply.error(errno(&refusal)),
    }
}

fn entry(found: Result<Attributes, Refusal>, reply: ReplyEntry) {
    match found {
        Ok(attributes) => reply.entry(&TRUE_FOR, &file_attributes(&attributes), GENERATION),
        Err(refusal) => reply.error(errno(&refusal)),
    }
}

fn attributes(found: Result<Attributes, Refusal>, reply: ReplyAttr) {
    match found {
        Ok(attributes) => reply.attr(&TRUE_FOR, &file_attributes(&attributes)),
        Err(refusal) => reply.error(errno(&refusal)),
    }
}

fn opened(handle: Result<u64, Refusal>, reply: ReplyOpen) {
    match handle {
        // Without a flag the kernel drops what it has of the file's pages.
        Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
        Err(refusal) => reply.error(errno(&refusal)),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.disk().look_up(parent.0, name), reply);
    }

    fn forget(&self, _: &Request, inode: INodeNo, references: u64) {
        self.disk().forget(inode.0, references);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attributes(self.disk().attributes(inode.0), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        bytes: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let new = NewAttributes {
            mode: mode.map(permissions),
            user,
            group,
            bytes,
            accessed: accessed.map(time),
            modified: modified.map(time),
        };
        attributes(self.disk().set(inode.0, new), reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        use nix::sys::stat::SFlag;
        match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => entry(
                self.disk().make_file(parent.0, name, maker(request, mode, umask)),
                reply,
            ),
            _ => reply.error(Errno::EPERM),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.disk().make_directory(parent.0, name, maker(request, mode, umask));
        entry(made, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.disk().unlink(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.disk().remove_directory(parent.0, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        empty(self.disk().rename((parent.0, name), (new_parent.0, new_name)), reply);
    }

    fn link(&self, _: &Request, inode: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        entry(self.disk().link(inode.0, new_parent.0, new_name), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.disk();
        let made = disk.make_file(parent.0, name, maker(request, mode, umask));
        let made = made.and_then(|made| Ok((made, disk.open(made.inode)?)));
        match made {
            Ok((made, handle)) => {
                let attributes = file_attributes(&made);
                reply.created(
                    &TRUE_FOR,
                    &attributes,
                    GENERATION,
                    FileHandle(handle),
                    FopenFlags::empty(),
                );
            }
            Err(refusal) => reply.error(errno(&refusal)),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        opened(self.disk().open(inode.0), reply);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(handle.0, offset, bytes as usize) {
            Ok(data) => reply.data(&data),
            Err(refusal) => reply.error(errno(&refusal)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(handle.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(refusal) => reply.error(errno(&refusal)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let bytes = match FallocateFlags::from_bits_retain(mode) {
            FallocateFlags::FALLOC_FL_KEEP_SIZE => 0,
            mode if mode.is_empty() => offset.saturating_add(length),
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        empty(self.disk().allocate(handle.0, bytes), reply);
    }

    /// A close, which promises nothing.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.disk().close(handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.disk().sync(handle.0), reply);
    }

    fn opendir(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        opened(self.disk().open(inode.0), reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut disk = self.disk();
        let listing = match disk.list(handle.0) {
            Ok(listing) => listing,
            Err(refusal) => return reply.error(errno(&refusal)),
        };
        // Of the directory above nobody asks for the number.
        let own = [".", ".."].map(|name| (OsStr::new(name), inode.0, true));
        let listed = listing
            .iter()
            .map(|(name, inode, is_directory)| (name.as_os_str(), *inode, *is_directory));
        let all = own.into_iter().chain(listed).zip(1..);
        for ((name, inode, is_directory), next) in all.skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let inode: Inode = inode;
            if reply.add(INodeNo(inode), next, kind(is_directory), name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.disk().close(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.disk().sync_directory(handle.0), reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let page = PAGE_BYTES as u64;
        match self.disk().room() {
            Ok((all, free)) => {
                let (all, free) = (all / page, free / page);
                reply.statfs(all, free, free, 0, 0, page as u32, NAME_BYTES_MAX, page as u32);
            }
            Err(refusal) => reply.error(errno(&refusal)),
        }
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }
}
