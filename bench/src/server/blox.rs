//! Our side: three nodes with their defaults, with or without a source of ECS events.

use std::path::Path;

use super::{MEMBERS, Member, ServerError};
use crate::ports;
use crate::process::{Process, Program};

/// Syncs of its log; its state is not synced, the log replays it.
pub(super) const SYNCS: &[&str] = &["blox_raft_wal_fsync_duration_seconds_count"];

/// What differs between two rows' nodes.
#[derive(Clone, Debug, Default)]
pub struct BloxOptions {
    /// Where ECS and SQS are, `http://host:port`; `None`: no source.
    pub ecs: Option<String>,
}

/// Starts the members of a new cluster.
pub(super) fn start(program: &Path, directory: &Path, options: &BloxOptions) -> Result<Vec<Member>, ServerError> {
    let ports = ports::free(2 * MEMBERS)?;
    let (clients, peers) = ports.split_at(MEMBERS);
    let name = |number: usize| format!("blox-{}", number + 1);
    let address = |port: u16| format!("127.0.0.1:{port}");
    let all: Vec<String> = (0..MEMBERS)
        .map(|number| format!("{}={}", name(number), address(peers[number])))
        .collect();
    let mut environment = vec![("BLOX_INITIAL_MEMBERS".to_owned(), all.join(","))];
    if let Some(url) = &options.ecs {
        let source = r#"[{name="bench", region="us-east-1", queue="blox-events"}]"#;
        environment.extend(
            [
                ("BLOX_SOURCE", source),
                ("AWS_ENDPOINT_URL", url),
                ("AWS_ACCESS_KEY_ID", "bench"),
                ("AWS_SECRET_ACCESS_KEY", "bench"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
    }
    let start = |number: usize| {
        let words = [
            ("name", name(number)),
            ("data-directory", directory.join(name(number)).display().to_string()),
            ("http-listen", address(clients[number])),
            ("peer-listen", address(peers[number])),
        ];
        let words = words.into_iter().flat_map(|(word, value)| [format!("--{word}"), value]);
        let program = Program {
            name: name(number),
            path: program.to_owned(),
            arguments: std::iter::once("node".to_owned()).chain(words).collect(),
            environment: environment.clone(),
            directory: directory.to_owned(),
        };
        Ok(Member {
            process: Process::start(program)?,
            address: address(clients[number]),
        })
    };
    (0..MEMBERS).map(start).collect()
}
