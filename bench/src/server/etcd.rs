//! The peer: etcd with its defaults, but for the room it may take.

use std::path::Path;

use super::{MEMBERS, Member, ServerError};
use crate::ports;
use crate::process::{Process, Program};

/// Syncs of its log, and of its state: each waits for the disk.
pub(super) const SYNCS: &[&str] = &[
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_backend_commit_duration_seconds_count",
];

/// The one setting that is not its default: it keeps all revisions, nobody compacts them here, and with its 2 GiB a long run would end in an alarm.
const QUOTA_BYTES: u64 = 8 << 30;

/// Starts the members of a new cluster.
pub(super) fn start(program: &Path, directory: &Path) -> Result<Vec<Member>, ServerError> {
    let ports = ports::free(2 * MEMBERS)?;
    let (clients, peers) = ports.split_at(MEMBERS);
    let name = |number: usize| format!("etcd-{}", number + 1);
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let all: Vec<String> = (0..MEMBERS)
        .map(|number| format!("{}={}", name(number), url(peers[number])))
        .collect();
    let start = |number: usize| {
        let (client, peer) = (url(clients[number]), url(peers[number]));
        let data = directory.join(name(number)).display().to_string();
        let words = [
            ("name", name(number)),
            ("data-dir", data),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer),
            ("initial-cluster", all.join(",")),
            ("initial-cluster-state", "new".to_owned()),
            ("quota-backend-bytes", QUOTA_BYTES.to_string()),
        ];
        let program = Program {
            name: name(number),
            path: program.to_owned(),
            arguments: words
                .into_iter()
                .map(|(word, value)| format!("--{word}={value}"))
                .collect(),
            environment: Vec::new(),
            directory: directory.to_owned(),
        };
        Ok(Member {
            process: Process::start(program)?,
            address: format!("127.0.0.1:{}", clients[number]),
        })
    };
    (0..MEMBERS).map(start).collect()
}
