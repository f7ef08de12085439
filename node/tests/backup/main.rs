//! Backups saved, inspected and restored; data directories and feature levels of other releases.

mod command;
mod content;
mod crashes;
mod golden;
mod levels;
mod restore;

#[allow(
    dead_code,
    unused_imports,
    reason = "shared by several test binaries; each uses its part"
)]
#[path = "../harness/mod.rs"]
mod harness;
