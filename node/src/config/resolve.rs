//! Puts the layers together, fills in the defaults and checks what no single key can be checked for.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use blox_ecs::SourceConfig;
use blox_raft::{InitialMember, SnapshotPolicy, Timing};
use blox_store::HistoryLimits;
use clap::ArgMatches;

use super::layer::{
    EndpointLayer, HistoryLayer, Layer, MemberLayer, SnapshotLayer, SourceLayer, StorageLayer, TimingLayer,
};
use super::units::{HumanDuration, HumanSize};
use super::{ConfigError, Endpoint, LogSettings, NodeConfig, settings};

/// Port of the users' interface.
const HTTP_PORT: u16 = 2000;
/// Port of the peers' interface.
const PEER_PORT: u16 = 2010;
/// Between two passes of reconcile over one source.
const RECONCILE_PAUSE: Duration = Duration::from_millis(blox_ecs::RECONCILE_PAUSE_MS_DEFAULT);
/// What is logged, with what of consensus' own is of use.
const LOG_LEVEL: &str = "info";
/// With less free on disk, writes are refused: what is under way is written to log and state, and what both hold in memory is flushed.
const DISK_RESERVE_BYTES: u64 = 256 << 20;
/// Less would not do for what is written between two looks at the disk.
const DISK_RESERVE_BYTES_MIN: u64 = 8 << 20;
/// Longest name of a node or source, bytes.
const NAME_BYTES_MAX: usize = 64;
/// Between two checks of the history's limits.
const HISTORY_CHECK: Duration = Duration::from_secs(60);
/// Each check writes to the log: no shorter than this.
const HISTORY_CHECK_MIN: Duration = Duration::from_millis(50);
/// An election time-out must allow for so many lost heartbeats.
const HEARTBEATS_PER_ELECTION_MIN: u32 = 2;

/// A configuration, and what its author should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: NodeConfig,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// Reads the file, then the environment, then the flags.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: Option<&ArgMatches>,
) -> Result<Loaded, ConfigError> {
    let mut layer = match file {
        Some(path) => {
            let origin = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
                path: origin.clone(),
                cause,
            })?;
            Layer::parse(&text, &origin)?
        }
        None => Layer::default(),
    };
    let warnings = settings::apply_environment(&mut layer, environment)?;
    if let Some(matches) = flags {
        settings::apply_flags(&mut layer, matches)?;
    }
    Ok(Loaded {
        config: resolve(layer)?,
        warnings,
    })
}

/// Fills in the defaults and checks the whole.
pub fn resolve(layer: Layer) -> Result<NodeConfig, ConfigError> {
    let name = layer
        .name
        .ok_or_else(|| invalid("`name` is missing: give each node a name of its own, as in name = \"node-1\""))?;
    check_name("name", &name)?;
    let insecure = layer.insecure.unwrap_or(false);
    let config = NodeConfig {
        data_directory: layer.data_directory.unwrap_or_else(|| PathBuf::from("data")),
        http: endpoint("http", &layer.http, HTTP_PORT, insecure)?,
        peer: endpoint("peer", &layer.peer, PEER_PORT, insecure)?,
        initial_members: initial_members(layer.initial_members.unwrap_or_default())?,
        sources: sources(layer.source.unwrap_or_default())?,
        timing: timing(&layer.timing)?,
        snapshot: snapshot(&layer.snapshot)?,
        history: history(&layer.history)?,
        history_check: history_check(&layer.history)?,
        disk_reserve_bytes: disk_reserve(&layer.storage)?,
        log: LogSettings {
            format: layer.log.format.unwrap_or_default(),
            level: layer
                .log
                .level
                .unwrap_or_else(|| format!("{LOG_LEVEL},{}", blox_raft::LOG_DIRECTIVES)),
        },
        name,
    };
    check_own_member(&config)?;
    Ok(config)
}

fn invalid(message: impl Into<String>) -> ConfigError {
    ConfigError::Invalid(message.into())
}

fn check_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(fits) {
        return Err(invalid(format!(
            "{key} = {name:?}: use 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
        )));
    }
    Ok(())
}

fn endpoint(section: &str, layer: &EndpointLayer, port: u16, insecure: bool) -> Result<Endpoint, ConfigError> {
    let listen = layer.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    if !listen.ip().is_loopback() && !insecure {
        return Err(invalid(format!(
            "[{section}] listen = \"{listen}\" is reachable from other machines, and there is no TLS and no token yet: \
             listen on 127.0.0.1, or say `insecure = true` where the network itself keeps strangers out"
        )));
    }
    let advertise = match &layer.advertise {
        Some(advertise) => {
            check_host_port(&format!("[{section}] advertise"), advertise)?;
            advertise.clone()
        }
        None if listen.ip().is_unspecified() => {
            return Err(invalid(format!(
                "[{section}] listens on {listen}, which is no address others can use: say `advertise = \"host:port\"`"
            )));
        }
        None => listen.to_string(),
    };
    Ok(Endpoint { listen, advertise })
}

fn check_host_port(key: &str, address: &str) -> Result<(), ConfigError> {
    let port = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(port) if port > 0 => Ok(()),
        _ => Err(invalid(format!(
            "{key} = {address:?}: write host:port, as in \"10.0.0.1:2010\""
        ))),
    }
}

fn initial_members(members: Vec<MemberLayer>) -> Result<Vec<InitialMember>, ConfigError> {
    if members.is_empty() {
        return Err(invalid(
            "`initial_members` is empty: list the members of the first start, the same on each of them (for a cluster of one, this node alone)",
        ));
    }
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for member in &members {
        check_name("initial_members name", &member.name)?;
        check_host_port("initial_members peer_address", &member.peer_address)?;
        if !names.insert(&member.name) || !addresses.insert(&member.peer_address) {
            return Err(invalid(format!(
                "initial_members: {} at {} stands there twice: names and addresses are each member's own",
                member.name, member.peer_address
            )));
        }
    }
    Ok(members
        .into_iter()
        .map(|member| InitialMember {
            name: member.name,
            peer_address: member.peer_address,
        })
        .collect())
}

/// Peers reach this node at the address of the list: another one of its own would split what they believe.
fn check_own_member(config: &NodeConfig) -> Result<(), ConfigError> {
    let own = config.initial_members.iter().find(|member| member.name == config.name);
    match own {
        Some(member) if member.peer_address != config.peer.advertise => Err(invalid(format!(
            "initial_members has {} at {}, but [peer] advertise is {}: make them the same",
            config.name, member.peer_address, config.peer.advertise
        ))),
        _ => Ok(()),
    }
}

fn sources(layers: Vec<SourceLayer>) -> Result<Vec<SourceConfig>, ConfigError> {
    let mut names = BTreeSet::new();
    layers
        .into_iter()
        .map(|layer| {
            let HumanDuration(pause) = layer.reconcile_pause.unwrap_or(HumanDuration(RECONCILE_PAUSE));
            let source = SourceConfig {
                name: layer.name,
                region: layer.region,
                role_arn: layer.role_arn,
                queue: layer.queue,
                clusters: layer.clusters,
                reconcile_pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            };
            source
                .check()
                .map_err(|message| invalid(format!("[[source]] {message}")))?;
            if !names.insert(source.name.clone()) {
                return Err(invalid(format!(
                    "[[source]] {:?} stands there twice: a source's name is part of its keys",
                    source.name
                )));
            }
            Ok(source)
        })
        .collect()
}

fn timing(layer: &TimingLayer) -> Result<Timing, ConfigError> {
    let default = Timing::default();
    let or =
        |given: Option<HumanDuration>, default: Duration| given.map_or(default, |HumanDuration(duration)| duration);
    let timing = Timing {
        heartbeat: or(layer.heartbeat, default.heartbeat),
        election_min: or(layer.election_min, default.election_min),
        election_max: or(layer.election_max, default.election_max),
        compare_states: or(layer.compare_states, default.compare_states),
    };
    if timing.compare_states.is_zero() {
        return Err(invalid("[timing] compare_states must be more than nothing"));
    }
    if timing.heartbeat.is_zero() || timing.election_min < timing.heartbeat * HEARTBEATS_PER_ELECTION_MIN {
        return Err(invalid(format!(
            "[timing] election_min = \"{}\" is too close to heartbeat = \"{}\": an election must allow for {HEARTBEATS_PER_ELECTION_MIN} heartbeats",
            HumanDuration(timing.election_min),
            HumanDuration(timing.heartbeat)
        )));
    }
    if timing.election_max <= timing.election_min {
        return Err(invalid(format!(
            "[timing] election_max = \"{}\" must be more than election_min = \"{}\", so that nodes do not all stand at once",
            HumanDuration(timing.election_max),
            HumanDuration(timing.election_min)
        )));
    }
    Ok(timing)
}

fn snapshot(layer: &SnapshotLayer) -> Result<SnapshotPolicy, ConfigError> {
    let default = SnapshotPolicy::default();
    let or = |given: Option<HumanSize>, default: u64| given.map_or(default, |HumanSize(bytes)| bytes);
    let policy = SnapshotPolicy {
        entries: layer.entries.unwrap_or(default.entries),
        bytes: or(layer.size, default.bytes),
        keep_entries: layer.keep_entries.unwrap_or(default.keep_entries),
        keep_bytes: or(layer.keep_size, default.keep_bytes),
    };
    if policy.entries == 0 || policy.bytes == 0 {
        return Err(invalid(
            "[snapshot] entries and size must be more than nothing: without snapshots the log only grows",
        ));
    }
    Ok(policy)
}

fn history(layer: &HistoryLayer) -> Result<HistoryLimits, ConfigError> {
    let default = HistoryLimits::default();
    let limits = HistoryLimits {
        age_ms: layer.kept.map_or(default.age_ms, |HumanDuration(kept)| {
            u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)
        }),
        revisions: layer.revisions.unwrap_or(default.revisions),
        bytes: layer.size.map_or(default.bytes, |HumanSize(bytes)| bytes),
    };
    if limits.age_ms == 0 || limits.revisions == 0 || limits.bytes == 0 {
        return Err(invalid(
            "[history] kept, revisions and size must be more than nothing: a watch could not even reconnect",
        ));
    }
    Ok(limits)
}

fn history_check(layer: &HistoryLayer) -> Result<Duration, ConfigError> {
    let HumanDuration(check) = layer.check.unwrap_or(HumanDuration(HISTORY_CHECK));
    if check < HISTORY_CHECK_MIN {
        return Err(invalid(format!(
            "[history] check = \"{}\" would fill the log by itself: make it {} or more",
            HumanDuration(check),
            HumanDuration(HISTORY_CHECK_MIN)
        )));
    }
    Ok(check)
}

fn disk_reserve(layer: &StorageLayer) -> Result<u64, ConfigError> {
    let HumanSize(bytes) = layer.reserve.unwrap_or(HumanSize(DISK_RESERVE_BYTES));
    if bytes < DISK_RESERVE_BYTES_MIN {
        return Err(invalid(format!(
            "[storage] reserve must be at least {} MiB: what is under way when writes begin to be refused needs it",
            DISK_RESERVE_BYTES_MIN >> 20
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::DEFAULT_FILE;
    use super::*;

    fn resolved(text: &str) -> Result<NodeConfig, ConfigError> {
        resolve(Layer::parse(text, "test")?)
    }

    const SMALLEST: &str = "name = \"a\"\ninitial_members = [{name=\"a\", peer_address=\"127.0.0.1:2010\"}]\n";

    /// The file that is shown as the default works as it stands, and says the defaults that hold: uncommenting its lines changes nothing.
    #[test]
    fn the_commented_file_tells_the_truth() {
        let shown = resolved(DEFAULT_FILE).expect("the default file is right");
        let uncommented: String = DEFAULT_FILE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') && !setting.starts_with("[[") => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .filter(|line| {
                ![
                    "region",
                    "role_arn",
                    "queue",
                    "clusters",
                    "reconcile_pause",
                    "name = \"prod\"",
                ]
                .iter()
                .any(|key| line.starts_with(key))
            })
            .collect();
        let uncommented = resolved(&uncommented).expect("the uncommented file is right");
        assert_eq!(format!("{shown:?}"), format!("{uncommented:?}"));
        assert_eq!(
            format!("{:?}", shown.history),
            format!("{:?}", HistoryLimits::default())
        );
    }

    /// Off loopback only where it is said, and an address others can use must follow.
    #[test]
    fn listening_off_loopback_must_be_said() {
        let open = format!("{SMALLEST}[http]\nlisten = \"0.0.0.0:2000\"\nadvertise = \"a.example:2000\"\n");
        let refusal = resolved(&open).expect_err("open").to_string();
        assert!(refusal.contains("insecure = true"), "{refusal}");
        assert_eq!(
            resolved(&format!("insecure = true\n{open}"))
                .expect("said")
                .http
                .advertise,
            "a.example:2000"
        );
        let silent = format!("insecure = true\n{SMALLEST}[http]\nlisten = \"0.0.0.0:2000\"\n");
        assert!(
            resolved(&silent)
                .expect_err("no advertised address")
                .to_string()
                .contains("advertise")
        );
    }

    /// Each contradiction is refused with what to do.
    #[test]
    fn contradictions_are_refused() {
        let cases = [
            (
                "initial_members = [{name=\"a\", peer_address=\"127.0.0.1:2010\"}]".to_owned(),
                "`name` is missing",
            ),
            ("name = \"a\"".to_owned(), "`initial_members` is empty"),
            (
                format!("{SMALLEST}[timing]\nheartbeat = \"100ms\"\n"),
                "too close to heartbeat",
            ),
            (
                format!("{SMALLEST}[timing]\nelection_min = \"300ms\"\n"),
                "election_max",
            ),
            (
                format!("{SMALLEST}[peer]\nlisten = \"127.0.0.1:2011\"\n"),
                "make them the same",
            ),
            (format!("{SMALLEST}[history]\nrevisions = 0\n"), "[history]"),
            (format!("{SMALLEST}[history]\ncheck = \"1ms\"\n"), "would fill the log"),
            (
                format!("{SMALLEST}[[source]]\nname=\"s\"\nregion=\"r\"\n[[source]]\nname=\"s\"\nregion=\"q\"\n"),
                "twice",
            ),
            ("name = \"a b\"".to_owned(), "letters, digits"),
        ];
        for (text, expected) in cases {
            let refusal = resolved(&text).expect_err(expected).to_string();
            assert!(refusal.contains(expected), "{refusal}");
        }
    }

    /// The environment wins over the file, a flag over the environment.
    #[test]
    fn later_layers_win() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("blox.toml");
        std::fs::write(
            &file,
            format!("{SMALLEST}[history]\nrevisions = 1\n[log]\nlevel = \"warn\"\n"),
        )
        .expect("written");
        let environment = [
            ("BLOX_HISTORY_REVISIONS".to_owned(), "2".to_owned()),
            ("BLOX_LOG_LEVEL".to_owned(), "debug".to_owned()),
        ];
        let flags = settings::add_flags(clap::Command::new("test")).get_matches_from(["test", "--history-revisions=3"]);
        let loaded = load(Some(&file), environment, Some(&flags)).expect("all layers are right");
        assert_eq!(loaded.config.history.revisions, 3);
        assert_eq!(loaded.config.log.level, "debug");
    }
}
