//! A disk that loses what was not synced: a file system of ours (FUSE) that lies under a node's data directory, so that its power can be cut at one
//! moment, a write be torn, a sync fail. `jepsen-tests lossy-disk` is the process that serves one; it knows nothing of Blox.
//!
//! # The model
//! Every file and every directory has two views: what processes see, and what the disk holds. A write changes the first. What is not synced is kept in
//! memory, bounded by [`UNSYNCED_BYTES_MAX`]; what the disk holds of files stands in a backing folder.
//!
//! - `fsync` and `fdatasync` of a file make its content, length and attributes durable, and nothing else: no name, not even its own.
//! - Names are durable when their directory is synced: create, link, unlink, mkdir and rmdir of a name with the `fsync` of the directory that holds it,
//!   a rename with that of either directory, and then in both: no disk has a file that is renamed by half. What else was done to the same names before is
//!   durable with it, in order; what was done to other names is not. A file whose name is durable and which never was synced is empty after a cut.
//! - That is POSIX to the letter, [`Durability::Strict`], and harder than ext4 or XFS, whose journal keeps all operations on names in order and writes
//!   them with the next sync of anything: [`Durability::Ordered`]. Who lives with the first lives with the second.
//!
//! A power cut ([`Cut`]) takes everything that is not durable, or tears it: of each file's unsynced writes some survive, by the sector, and of what was
//! done to names some operations do, each with those on which it rests. Which: by a seed. From that moment on every operation answers EIO, until the
//! power is back; what was opened before stays useless.
//!
//! A sync that fails ([`Failing`]) answers EIO and loses what it was to write, as Linux does: the pages count as clean from then on, so that the next sync
//! of the same file succeeds without having written them. They are still read, as on ext4 until they are evicted, or gone at once, as on others.

mod content;
mod control;
mod counters;
mod cut;
mod disk;
mod durable;
mod failing;
mod fuse;
mod names;
mod node;
mod process;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use content::{PAGE_BYTES, SECTOR_BYTES};
pub use control::Order;
pub use counters::Counters;
pub use cut::{Cut, CutReport};
pub use disk::{Disk, Durability, Refusal, UNSYNCED_BYTES_MAX};
pub use failing::{Failing, Pages};
pub use names::{Inode, ROOT};
pub use node::{Attributes, Maker, NewAttributes};
pub use process::{MOUNTED, ServeError, serve};
