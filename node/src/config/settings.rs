//! The one table of keys that can be given outside the file: the environment name and the flag follow from the key.
//!
//! `history.kept` is `BLOX_HISTORY_KEPT` and `--history-kept`.

use std::str::FromStr;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::ConfigError;
use super::layer::{self, Layer, MemberLayer, SourceLayer};

/// What every variable of ours begins with.
const ENVIRONMENT_PREFIX: &str = "BLOX_";
/// Variables of ours that stand for flags of the command line, not for keys.
const OTHER_VARIABLES: &[&str] = &[
    "BLOX_CONFIG",
    "BLOX_HEALTH_URL",
    "BLOX_ENDPOINT",
    #[cfg(feature = "failpoints")]
    crate::failpoints::LISTEN_VARIABLE,
    #[cfg(feature = "failpoints")]
    crate::failpoints::KNOWN_LEVEL_VARIABLE,
    #[cfg(feature = "zoo")]
    crate::zoo::VARIABLE,
];

/// One key.
struct Setting {
    key: &'static str,
    /// What a value looks like, for the help.
    form: &'static str,
    help: &'static str,
    set: fn(&mut Layer, &str) -> Result<(), String>,
}

/// Reads a value of any type that can be read from text.
fn read<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Option<T>, String> {
    text.trim()
        .parse()
        .map(Some)
        .map_err(|error| format!("{text:?}: {error}"))
}

macro_rules! setting {
    ($key:literal, $form:literal, $help:literal, $($field:ident).+) => {
        Setting { key: $key, form: $form, help: $help, set: |layer, text| { layer.$($field).+ = read(text)?; Ok(()) } }
    };
}

const SETTINGS: &[Setting] = &[
    setting!("name", "NAME", "Unique in the cluster, the same for ever", name),
    setting!(
        "data_directory",
        "DIRECTORY",
        "Identity, log, state and snapshots",
        data_directory
    ),
    setting!(
        "insecure",
        "true|false",
        "Allow listening off loopback without TLS and token",
        insecure
    ),
    setting!("http.listen", "ADDRESS:PORT", "Users' interface", http.listen),
    setting!(
        "http.advertise",
        "HOST:PORT",
        "Told to users when this node leads",
        http.advertise
    ),
    setting!("peer.listen", "ADDRESS:PORT", "The other nodes' interface", peer.listen),
    setting!(
        "peer.advertise",
        "HOST:PORT",
        "Under which the other nodes reach it",
        peer.advertise
    ),
    Setting {
        key: "initial_members",
        form: "NAME=HOST:PORT,...",
        help: "The members of the first start",
        set: |layer, text| {
            layer.initial_members = Some(members(text)?);
            Ok(())
        },
    },
    Setting {
        key: "source",
        form: "TOML",
        help: "Where ECS is observed, as in [{name=\"prod\", region=\"us-east-1\", queue=\"blox-events\"}]",
        set: |layer, text| {
            layer.source = Some(sources(text)?);
            Ok(())
        },
    },
    setting!("timing.heartbeat", "DURATION", "Between heartbeats", timing.heartbeat),
    setting!(
        "timing.election_min",
        "DURATION",
        "Shortest election time-out",
        timing.election_min
    ),
    setting!(
        "timing.election_max",
        "DURATION",
        "Longest election time-out",
        timing.election_max
    ),
    setting!(
        "timing.compare_states",
        "DURATION",
        "Between two comparisons of the nodes' states",
        timing.compare_states
    ),
    setting!(
        "snapshot.entries",
        "COUNT",
        "Take a snapshot after so many log entries",
        snapshot.entries
    ),
    setting!(
        "snapshot.size",
        "SIZE",
        "Take a snapshot after so much log",
        snapshot.size
    ),
    setting!(
        "snapshot.keep_entries",
        "COUNT",
        "Log entries kept behind a snapshot",
        snapshot.keep_entries
    ),
    setting!(
        "snapshot.keep_size",
        "SIZE",
        "Log kept behind a snapshot",
        snapshot.keep_size
    ),
    setting!("history.kept", "DURATION", "How far back watches resume", history.kept),
    setting!(
        "history.revisions",
        "COUNT",
        "How many revisions are kept",
        history.revisions
    ),
    setting!("history.size", "SIZE", "How much history is kept", history.size),
    setting!(
        "history.check",
        "DURATION",
        "How often these limits are enforced",
        history.check
    ),
    setting!(
        "storage.reserve",
        "SIZE",
        "With less than this free on disk, writes are refused",
        storage.reserve
    ),
    Setting {
        key: "log.format",
        form: "text|json",
        help: "Form of a log line",
        set: |layer, text| {
            layer.log.format = Some(
                clap::ValueEnum::from_str(text.trim(), true).map_err(|_| format!("{text:?}: write text or json"))?,
            );
            Ok(())
        },
    },
    setting!(
        "log.level",
        "DIRECTIVES",
        "As in RUST_LOG: info, or warn,blox_raft=debug",
        log.level
    ),
];

impl Setting {
    fn environment_name(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.key.replace('.', "_").to_uppercase())
    }

    fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }
}

/// `a=host:port,b=host:port`.
fn members(text: &str) -> Result<Vec<MemberLayer>, String> {
    let form = "write NAME=HOST:PORT for each member, separated by commas";
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, peer_address) = part.split_once('=').ok_or_else(|| format!("{part:?}: {form}"))?;
            Ok(MemberLayer {
                name: name.trim().to_owned(),
                peer_address: peer_address.trim().to_owned(),
            })
        })
        .collect()
}

/// A TOML array of inline tables with the keys of `[[source]]`.
fn sources(text: &str) -> Result<Vec<SourceLayer>, String> {
    #[derive(serde::Deserialize)]
    struct Sources {
        source: Vec<SourceLayer>,
    }
    layer::parse::<Sources>(&format!("source = {text}"), "source")
        .map(|sources| sources.source)
        .map_err(|error| match error {
            ConfigError::Parse { message, .. } => message,
            other => other.to_string(),
        })
}

/// Puts the `BLOX_*` variables over a layer. Returns a warning for each that is not known: others' tools may use the prefix (Kubernetes
/// sets BLOX_SERVICE_HOST beside a service named blox), so these are no errors.
pub fn apply_environment(
    layer: &mut Layer,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for (name, value) in variables {
        if !name.starts_with(ENVIRONMENT_PREFIX) || OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.environment_name() == name) else {
            warnings.push(unknown_variable(&name));
            continue;
        };
        (setting.set)(layer, &value).map_err(|message| ConfigError::Value { origin: name, message })?;
    }
    Ok(warnings)
}

fn unknown_variable(name: &str) -> String {
    let known: Vec<String> = SETTINGS.iter().map(Setting::environment_name).collect();
    match layer::most_like(name, known.iter().map(String::as_str)) {
        Some(suggestion) => {
            format!("the environment variable {name} is not one of ours and is ignored; did you mean {suggestion}?")
        }
        None => format!("the environment variable {name} is not one of ours and is ignored"),
    }
}

/// Adds a flag for each key to a command.
pub fn add_flags(command: Command) -> Command {
    SETTINGS.iter().fold(command, |command, setting| {
        let mut arg = Arg::new(setting.key)
            .long(setting.flag())
            .value_name(setting.form)
            .help(format!("{} [env: {}]", setting.help, setting.environment_name()))
            .action(ArgAction::Set);
        if setting.key == "insecure" {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
        }
        command.arg(arg)
    })
}

/// Puts the flags given over a layer.
pub fn apply_flags(layer: &mut Layer, matches: &ArgMatches) -> Result<(), ConfigError> {
    for setting in SETTINGS {
        if let Some(value) = matches.get_one::<String>(setting.key) {
            (setting.set)(layer, value).map_err(|message| ConfigError::Value {
                origin: format!("--{}", setting.flag()),
                message,
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Every key of the commented file can be given by the environment and by a flag, and the reverse.
    #[test]
    fn the_table_has_every_key_of_the_file() {
        let mut section = String::new();
        let mut keys = Vec::new();
        for line in super::super::DEFAULT_FILE
            .lines()
            .map(|line| line.trim_start_matches('#'))
        {
            if let Some(name) = line.strip_prefix("[[") {
                let name = name.trim_end_matches("]]").to_owned();
                keys.push(name.clone());
                section = "skip".into();
            } else if let Some(name) = line.strip_prefix('[') {
                section = format!("{}.", name.trim_end_matches(']'));
            } else if let Some((key, _)) = line.split_once(" = ")
                && section != "skip"
                && !key.contains(' ')
            {
                keys.push(format!("{section}{key}"));
            }
        }
        keys.sort();
        let mut known: Vec<String> = SETTINGS.iter().map(|setting| setting.key.to_owned()).collect();
        known.sort();
        assert_eq!(keys, known);
    }

    /// Variables are read by their names, lists too; what is not ours is ignored with a suggestion.
    #[test]
    fn the_environment_is_read() {
        let mut layer = Layer::default();
        let warnings = apply_environment(
            &mut layer,
            variables(&[
                ("BLOX_HTTP_LISTEN", "127.0.0.1:2001"),
                ("BLOX_TIMING_HEARTBEAT", "75ms"),
                ("BLOX_INITIAL_MEMBERS", "a=h1:1, b=h2:2"),
                ("BLOX_SOURCE", r#"[{name="p", region="r", clusters=["c"]}]"#),
                ("BLOX_LOG_FORMAT", "JSON"),
                ("BLOX_HTTP_LISTENS", "x"),
                ("PATH", "/bin"),
            ]),
        )
        .expect("every value is right");
        assert_eq!(layer.http.listen, Some("127.0.0.1:2001".parse().expect("an address")));
        assert_eq!(layer.initial_members.expect("given")[1].peer_address, "h2:2");
        assert_eq!(layer.source.expect("given")[0].clusters, ["c"]);
        assert_eq!(layer.log.format, Some(super::super::LogFormat::Json));
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("did you mean BLOX_HTTP_LISTEN?"), "{warnings:?}");
    }

    /// A wrong value names its variable or flag; an unknown key in a source gets a suggestion as in the file.
    #[test]
    fn wrong_values_name_their_origin() {
        let mut layer = Layer::default();
        let refusal = apply_environment(&mut layer, variables(&[("BLOX_HISTORY_SIZE", "much")])).expect_err("no size");
        assert!(refusal.to_string().starts_with("BLOX_HISTORY_SIZE: "), "{refusal}");
        let refusal = apply_environment(
            &mut layer,
            variables(&[("BLOX_SOURCE", r#"[{name="p", regions="r"}]"#)]),
        )
        .expect_err("unknown key");
        assert!(refusal.to_string().contains("did you mean `region`?"), "{refusal}");
        let matches = add_flags(Command::new("test")).get_matches_from(["test", "--http-listen", "nowhere"]);
        let refusal = apply_flags(&mut layer, &matches).expect_err("no address");
        assert!(refusal.to_string().starts_with("--http-listen: "), "{refusal}");
    }
}
