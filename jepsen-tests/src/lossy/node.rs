//! A file or a directory beside its names.

use std::time::SystemTime;

use super::content::Content;
use super::names::Inode;

/// What is known of a file or directory beside its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub inode: Inode,
    /// Whether it is a directory; a file otherwise.
    pub is_directory: bool,
    /// Length, bytes.
    pub bytes: u64,
    /// Permissions.
    pub mode: u16,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Names that stand for it; 1 for any directory.
    pub links: u32,
    /// Of the last reading, as far as it was set.
    pub accessed: SystemTime,
    /// Of the last writing.
    pub modified: SystemTime,
}

/// What is to be set; the rest stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewAttributes {
    /// Permissions.
    pub mode: Option<u16>,
    /// Owner.
    pub user: Option<u32>,
    /// Group.
    pub group: Option<u32>,
    /// Length, bytes.
    pub bytes: Option<u64>,
    /// Of the last reading.
    pub accessed: Option<SystemTime>,
    /// Of the last writing.
    pub modified: Option<SystemTime>,
}

/// Who makes something, and with which permissions.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Permissions.
    pub mode: u16,
}

/// What belongs to it whatever it is called.
#[derive(Clone, Copy)]
pub(super) struct Inherent {
    pub mode: u16,
    pub user: u32,
    pub group: u32,
    pub accessed: SystemTime,
    pub modified: SystemTime,
}

/// A file or a directory.
pub(super) struct Node {
    /// `None`: a directory.
    pub content: Option<Content>,
    /// As processes see them.
    pub shown: Inherent,
    /// As the disk holds them.
    pub durable: Inherent,
    /// Names of a file, as processes see them.
    pub links: u32,
    /// References that the kernel holds.
    pub known: u64,
    /// How often it is open.
    pub opened: u32,
}

impl Node {
    /// With one name.
    pub fn new(content: Option<Content>, maker: Maker) -> Node {
        let now = SystemTime::now();
        let inherent = Inherent {
            mode: maker.mode,
            user: maker.user,
            group: maker.group,
            accessed: now,
            modified: now,
        };
        Node {
            content,
            shown: inherent,
            durable: inherent,
            links: 1,
            known: 0,
            opened: 0,
        }
    }

    /// Under this number.
    pub fn attributes(&self, inode: Inode) -> Attributes {
        Attributes {
            inode,
            is_directory: self.content.is_none(),
            bytes: self.content.as_ref().map_or(0, Content::bytes),
            mode: self.shown.mode,
            user: self.shown.user,
            group: self.shown.group,
            links: self.links.max(u32::from(self.content.is_none())),
            accessed: self.shown.accessed,
            modified: self.shown.modified,
        }
    }
}
