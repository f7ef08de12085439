//! What differs from the shipped compose file in one run: settings drawn by its seed, and the places of volumes.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::compose::SERVICES;
use crate::nemesis::{Clocks, DiskKind};

/// A snapshot is taken after so many entries, and so many are kept behind it: few, so that snapshots are taken, sent and installed in a short run.
const SNAPSHOT_ENTRIES: [u32; 3] = [300, 1_000, 3_000];
/// Of a hundred runs so many keep the defaults, as users have them.
const DEFAULTS: u32 = 40;
/// Less than this free on a small disk, and writes are refused.
const RESERVE: &str = "64MiB";

/// Settings of all nodes, by the names of their variables.
pub type Settings = Vec<(&'static str, String)>;

/// What a node says where its log is to be full soon.
const MUCH: &str = "debug,openraft=info";

/// How much of what it says is kept: the whole of a run. What is lost may be a panic, or a start.
const LOGGING: &str = "    logging: {driver: json-file, options: {max-size: 256m, max-file: \"4\"}}\n";

/// What the faults of a run need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its nodes have disks of this kind; `None`: the machine's.
    pub disk: Option<DiskKind>,
    /// They say much.
    pub long_logs: bool,
    /// Their wall clocks can be set.
    pub clocks: bool,
}

/// The settings of a run.
pub fn settings(seed: u64, needs: Needs) -> Settings {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5E7);
    let mut settings = Vec::new();
    if !random.random_ratio(DEFAULTS, 100) {
        let entries = SNAPSHOT_ENTRIES
            .choose(&mut random)
            .copied()
            .unwrap_or(SNAPSHOT_ENTRIES[0]);
        settings.push(("BLOX_SNAPSHOT_ENTRIES", entries.to_string()));
        settings.push(("BLOX_SNAPSHOT_KEEP_ENTRIES", entries.to_string()));
    }
    if needs.disk == Some(DiskKind::Ext4) {
        settings.push(("BLOX_STORAGE_RESERVE", RESERVE.to_owned()));
    }
    if needs.clocks {
        settings.extend(Clocks::environment());
    }
    if needs.long_logs {
        settings.push(("BLOX_LOG_LEVEL", MUCH.to_owned()));
    }
    settings
}

/// The same with some that are given, which count before those of the same name.
pub fn with(mut settings: Settings, given: &Settings) -> Settings {
    settings.retain(|(name, _)| !given.iter().any(|(other, _)| other == name));
    settings.extend(given.iter().cloned());
    settings
}

/// A compose file over the shipped one; `volumes`: where the nodes' volumes are, unless where Docker puts them.
pub fn compose_file(settings: &Settings, volumes: Option<&str>, clocks: Option<&Clocks>) -> String {
    let mut services = String::new();
    for service in SERVICES {
        let mut parts = LOGGING.to_owned();
        if !settings.is_empty() {
            parts += "    environment:\n";
            for (name, value) in settings {
                parts += &format!("      {name}: \"{value}\"\n");
            }
        }
        if let Some(clocks) = clocks {
            parts += &format!("    volumes: [\"{}\"]\n", clocks.volume(service));
        }
        services += &format!("  {service}:\n{parts}");
    }
    let text = format!("version: \"3.8\"\nservices:\n{services}");
    text + volumes.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same seed gives the same settings; some keep the defaults, others do not.
    #[test]
    fn the_seed_decides() {
        let all: Vec<Settings> = (0..50).map(|seed| settings(seed, Needs::default())).collect();
        assert!(all.iter().any(Vec::is_empty) && all.iter().any(|one| !one.is_empty()));
        let needs = Needs {
            disk: Some(DiskKind::Ext4),
            long_logs: true,
            clocks: true,
        };
        assert_eq!(settings(9, needs), settings(9, needs));
        assert!(settings(9, needs).len() >= 2);
    }

    /// What is given counts, once.
    #[test]
    fn what_is_given_counts() {
        let drawn = vec![("BLOX_X", "1".to_owned()), ("BLOX_Y", "2".to_owned())];
        let given = vec![("BLOX_X", "3".to_owned())];
        assert_eq!(
            with(drawn, &given),
            [("BLOX_Y", "2".to_owned()), ("BLOX_X", "3".to_owned())]
        );
    }

    /// Every node gets them; without any the file only has more of the logs kept.
    #[test]
    fn the_file_names_every_node() {
        let file = compose_file(&vec![("BLOX_X", "1".to_owned())], None, None);
        assert_eq!(file.matches("BLOX_X: \"1\"").count(), SERVICES.len());
        let head = format!("version: \"3.8\"\nservices:\n  node-1:\n{LOGGING}");
        assert!(file.starts_with(&format!("{head}    environment:\n")), "{file}");
        let bare = compose_file(&Vec::new(), None, None);
        assert!(bare.starts_with(&format!("{head}  node-2:\n")), "{bare}");
    }
}
