//! One layer of configuration as written in a file: everything optional, unknown keys refused with a suggestion and their line.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::units::{HumanDuration, HumanSize};
use super::{ConfigError, LogFormat};

/// A name at least so like a known one is suggested (Jaro-Winkler, 0 to 1).
const SUGGESTION_LIKENESS_MIN: f64 = 0.75;

/// One layer; what is not given is left to the layer below.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    pub name: Option<String>,
    pub data_directory: Option<PathBuf>,
    pub insecure: Option<bool>,
    #[serde(default)]
    pub http: EndpointLayer,
    #[serde(default)]
    pub peer: EndpointLayer,
    pub initial_members: Option<Vec<MemberLayer>>,
    pub source: Option<Vec<SourceLayer>>,
    #[serde(default)]
    pub timing: TimingLayer,
    #[serde(default)]
    pub snapshot: SnapshotLayer,
    #[serde(default)]
    pub history: HistoryLayer,
    #[serde(default)]
    pub storage: StorageLayer,
    #[serde(default)]
    pub log: LogLayer,
}

/// `[http]` and `[peer]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointLayer {
    pub listen: Option<SocketAddr>,
    pub advertise: Option<String>,
}

/// `[[initial_members]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberLayer {
    pub name: String,
    pub peer_address: String,
}

/// `[[source]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceLayer {
    pub name: String,
    pub region: String,
    pub role_arn: Option<String>,
    pub queue: Option<String>,
    #[serde(default)]
    pub clusters: Vec<String>,
    pub reconcile_pause: Option<HumanDuration>,
}

/// `[timing]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingLayer {
    pub heartbeat: Option<HumanDuration>,
    pub election_min: Option<HumanDuration>,
    pub election_max: Option<HumanDuration>,
    pub compare_states: Option<HumanDuration>,
}

/// `[snapshot]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotLayer {
    pub entries: Option<u64>,
    pub size: Option<HumanSize>,
    pub keep_entries: Option<u64>,
    pub keep_size: Option<HumanSize>,
}

/// `[history]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryLayer {
    pub kept: Option<HumanDuration>,
    pub revisions: Option<u64>,
    pub size: Option<HumanSize>,
    pub check: Option<HumanDuration>,
}

/// `[storage]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageLayer {
    pub reserve: Option<HumanSize>,
}

/// `[log]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLayer {
    pub format: Option<LogFormat>,
    pub level: Option<String>,
}

impl Layer {
    /// Reads a file's text; `origin` names it in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Layer, ConfigError> {
        parse(text, origin)
    }
}

/// Reads TOML; an error says its line and, where a name is not known, the one that was probably meant.
pub fn parse<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let mut message = error.message().trim_end().to_owned();
        if let Some(suggestion) = suggestion_for(&message) {
            message = format!("{message}; did you mean `{suggestion}`?");
        }
        ConfigError::Parse {
            origin: origin.to_owned(),
            line,
            message,
        }
    })
}

/// serde says "unknown field `x`, expected one of `a`, `b`" (variants alike): the known name most like the unknown one.
fn suggestion_for(message: &str) -> Option<&str> {
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    most_like(unknown, names)
}

/// The known name most like `unknown`, if any is like it at all.
pub fn most_like<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(likeness, _)| *likeness >= SUGGESTION_LIKENESS_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Layer::parse(text, "blox.toml").expect_err(text).to_string()
    }

    /// An unknown key says where it stands and what was probably meant, at the top and inside sections.
    #[test]
    fn unknown_keys_are_refused_with_line_and_suggestion() {
        let message = refusal("name = \"a\"\ndata_dir = \"x\"\n");
        assert!(
            message.starts_with("blox.toml, line 2: unknown field `data_dir`"),
            "{message}"
        );
        assert!(message.ends_with("did you mean `data_directory`?"), "{message}");
        let message = refusal("[http]\n\nlisten = \"127.0.0.1:1\"\nadvertize = \"x:1\"\n");
        assert!(
            message.starts_with("blox.toml, line 4:") && message.contains("did you mean `advertise`?"),
            "{message}"
        );
        let message = refusal("[[source]]\nname = \"a\"\nregion = \"b\"\nque = \"c\"\n");
        assert!(
            message.starts_with("blox.toml, line 4:") && message.contains("did you mean `queue`?"),
            "{message}"
        );
        let message = refusal("[log]\nformat = \"jsn\"\n");
        assert!(
            message.contains("line 2") && message.contains("did you mean `json`?"),
            "{message}"
        );
    }

    /// A name like nothing we know gets no suggestion.
    #[test]
    fn what_resembles_nothing_gets_no_suggestion() {
        assert!(!refusal("zzz = 1\n").contains("did you mean"));
    }

    /// Wrong values say their line and what would be right.
    #[test]
    fn wrong_values_say_their_line() {
        let message = refusal("name = \"a\"\n[timing]\nheartbeat = \"50\"\n");
        assert!(
            message.starts_with("blox.toml, line 3: ") && message.contains("\"50ms\""),
            "{message}"
        );
        assert!(refusal("[http]\nlisten = \"localhost\"\n").contains("line 2"));
        assert!(refusal("name = \n").contains("line 1"));
    }
}
