//! What this machine can do to a cluster. What it cannot is left out, by name and with its reason: never silently.

use std::path::Path;

use crate::command;
use crate::nemesis::{DiskKind, Nemesis, clock_library, memory_is_readable};

/// Programs that disks of their own need, beside root.
const DISK_PROGRAMS: [&str; 5] = ["losetup", "mkfs.ext4", "e2fsck", "fsfreeze", "fallocate"];
/// What a disk that loses what was not synced needs, beside root.
const FUSE: &str = "/dev/fuse";
const LOSSY_PROGRAMS: [&str; 3] = ["install", "stat", "umount"];
/// Programs that a blocked log needs.
const LOG_PROGRAMS: [&str; 1] = ["setsid"];
/// Programs that broken links need.
const LINK_PROGRAMS: [&str; 2] = ["iptables", "nsenter"];
/// Programs and the device that relays need, beside root.
const RELAY_PROGRAMS: [&str; 2] = ["ip", "nsenter"];
const RELAY_DEVICE: &str = "/dev/net/tun";

/// Why a fault cannot be committed here; `None`: it can.
pub async fn missing(nemesis: Nemesis) -> Option<String> {
    let is_root = command::run("id", &["-u"], &[]).await.ok().as_deref() == Some("0");
    if nemesis == Nemesis::LogBlock {
        if !is_root {
            return Some("only root can have Docker's reader stand still".to_owned());
        }
        return absent(&LOG_PROGRAMS).await;
    }
    if nemesis.needs_relays() {
        if !is_root {
            return Some("only root can put relays into a container's network".to_owned());
        }
        if !Path::new(RELAY_DEVICE).exists() {
            return Some(format!("there is no {RELAY_DEVICE} (modprobe tun)"));
        }
        return absent(&RELAY_PROGRAMS).await;
    }
    if nemesis == Nemesis::Memory {
        let missing = || "the memory of containers cannot be read from this machine's cgroups".to_owned();
        return (!memory_is_readable()).then(missing);
    }
    if nemesis.needs_clocks() {
        let missing = || "there is no libfaketime (Debian has a package of that name)".to_owned();
        return clock_library().is_none().then(missing);
    }
    if let Some(disk) = nemesis.disk() {
        if !is_root {
            return Some("only root can mount disks".to_owned());
        }
        return match disk {
            DiskKind::Ext4 => absent(&DISK_PROGRAMS).await,
            DiskKind::Lossy if !Path::new(FUSE).exists() => {
                Some(format!("there is no {FUSE} (`modprobe fuse` may make it)"))
            }
            DiskKind::Lossy => absent(&LOSSY_PROGRAMS).await,
        };
    }
    let of_links = [Nemesis::Partition, Nemesis::Flap, Nemesis::Loss];
    if of_links.contains(&nemesis) || Nemesis::PARTITIONS.contains(&nemesis) {
        return absent(&LINK_PROGRAMS).await;
    }
    None
}

/// The first of them that is not there.
async fn absent(programs: &[&str]) -> Option<String> {
    for program in programs {
        let found = format!("command -v {program}");
        if command::run("sh", &["-c", &found], &[]).await.is_err() {
            return Some(format!("there is no {program}"));
        }
    }
    None
}
