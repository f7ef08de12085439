//! Which run shows which bug.

use std::time::Duration;

use serde_json::{Value, json};

use crate::suite::schedule::Wanted;
use crate::workload::Workload::{self, Daemon, Idempotent, Ingest, Register, Set, Watch};

/// A bug, and the run that is to catch it.
#[derive(Debug)]
pub struct Exhibit {
    /// Its word, as the nodes know it.
    pub bug: &'static str,
    /// For people.
    pub title: &'static str,
    /// Side by side.
    pub workloads: &'static [Workload],
    /// Faults, as they are named on the command line.
    nemeses: &'static [&'static str],
    /// Faults at once.
    pub lanes: usize,
    /// How long the load lasts.
    pub time: Duration,
    /// Requests, over all workloads and nodes.
    pub per_second: u32,
    /// Settings of the nodes.
    settings: &'static [(&'static str, &'static str)],
    /// Checks of the promise that it breaks: nothing else counts.
    promises: &'static [&'static str],
}

/// What clients read and write of their own keys.
const KEYS: &[&str] = &[
    "register: linearizable",
    "set: nothing is lost",
    "revisions grow over all keys",
    "all nodes tell one history",
];
/// A node that was away for a few seconds comes back by a snapshot.
const FEW_ENTRIES: &[(&str, &str)] = &[("BLOX_SNAPSHOT_ENTRIES", "100"), ("BLOX_SNAPSHOT_KEEP_ENTRIES", "50")];

/// All there are. The same words stand in the nodes' own list (a test of `node` compares them).
pub const EXHIBITS: [Exhibit; 12] = [
    Exhibit {
        bug: "stale-read",
        title: "stale local read as linearizable",
        workloads: &[Register],
        nemeses: &["isolate:one"],
        lanes: 1,
        time: Duration::from_secs(30),
        per_second: 200,
        settings: &[],
        promises: &["register: linearizable"],
    },
    // A kill loses nothing that the kernel has: only a power cut shows it.
    Exhibit {
        bug: "early-ack",
        title: "acknowledged before fsync",
        workloads: &[Register, Set],
        nemeses: &["power-cut:all"],
        lanes: 1,
        time: Duration::from_secs(45),
        per_second: 300,
        settings: &[],
        promises: KEYS,
    },
    // All at once, so that nobody is left who remembers the term's vote; and while its packets are late the leader has entries that nobody else has,
    // in whose place another leader of the same term writes its own.
    Exhibit {
        bug: "vote-not-saved",
        title: "vote not saved",
        workloads: &[Register, Set],
        nemeses: &["kill:all", "delay:leader"],
        lanes: 2,
        time: Duration::from_secs(60),
        per_second: 400,
        settings: &[],
        promises: KEYS,
    },
    Exhibit {
        bug: "applied-apart",
        title: "applied index apart from its data",
        workloads: &[Register, Set],
        nemeses: &["kill:all", "kill:majority"],
        lanes: 1,
        time: Duration::from_secs(45),
        per_second: 300,
        settings: &[],
        promises: KEYS,
    },
    // What a leader that is cut off proposes is never committed.
    Exhibit {
        bug: "early-delivery",
        title: "delivered before commit",
        workloads: &[Register, Watch],
        nemeses: &["isolate:leader"],
        lanes: 1,
        time: Duration::from_secs(45),
        per_second: 200,
        settings: &[],
        promises: &["watch: told as committed"],
    },
    // A node that catches up applies hundreds of changes at once: whoever watches there lags.
    Exhibit {
        bug: "dropping-watch",
        title: "watch drops on lag",
        workloads: &[Register, Watch],
        nemeses: &["isolate:one", "pause:one"],
        lanes: 1,
        time: Duration::from_secs(45),
        per_second: 300,
        settings: &[],
        promises: &["watch: told as committed"],
    },
    Exhibit {
        bug: "repeating-resume",
        title: "resume repeats",
        workloads: &[Watch],
        nemeses: &[],
        lanes: 1,
        time: Duration::from_secs(20),
        per_second: 100,
        settings: &[],
        promises: &["watch: told as committed"],
    },
    // A leader that is cut off from its peers is not cut off from the queue.
    Exhibit {
        bug: "early-delete",
        title: "delete before apply",
        workloads: &[Ingest],
        nemeses: &["isolate:leader"],
        lanes: 1,
        time: Duration::from_secs(45),
        per_second: 50,
        settings: &[],
        promises: &["ingest: everything arrived"],
    },
    // Calls are late by seconds: who takes over must know of them. (Clients' requests show that the kills are felt.)
    Exhibit {
        bug: "early-launch",
        title: "launch before intent",
        workloads: &[Register, Daemon],
        nemeses: &["kill:leader"],
        lanes: 1,
        time: Duration::from_secs(60),
        per_second: 50,
        settings: &[],
        promises: &["daemon: one an instance"],
    },
    Exhibit {
        bug: "no-fence",
        title: "no fence",
        workloads: &[Ingest, Daemon],
        nemeses: &["isolate:leader", "pause:leader"],
        lanes: 1,
        time: Duration::from_secs(60),
        per_second: 50,
        settings: &[],
        promises: &["sessions never go back", "daemon: one an instance"],
    },
    Exhibit {
        bug: "key-ignored",
        title: "idempotency key ignored",
        workloads: &[Idempotent],
        nemeses: &[],
        lanes: 1,
        time: Duration::from_secs(20),
        per_second: 100,
        settings: &[],
        promises: &["idempotent: applied once"],
    },
    Exhibit {
        bug: "half-snapshot",
        title: "snapshot half installed",
        workloads: &[Register, Set],
        nemeses: &["isolate:one"],
        lanes: 1,
        time: Duration::from_secs(45),
        per_second: 300,
        settings: FEW_ENTRIES,
        promises: KEYS,
    },
];

impl Exhibit {
    /// The bug of this word.
    pub fn of(word: &str) -> Option<&'static Exhibit> {
        EXHIBITS.iter().find(|exhibit| exhibit.bug == word)
    }

    /// Its faults.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let read = |word: &&str| word.parse().expect("a test reads every one");
        self.nemeses.iter().map(read).collect()
    }

    /// Settings of the nodes, with the bug or without.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let owned = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
        self.settings.iter().map(owned).collect()
    }

    /// Of the checks that found something, the first one that is of the promise.
    pub(super) fn caught_by<'a>(&self, noticed: &'a [Value]) -> Option<&'a Value> {
        let of = |promise: &&str| noticed.iter().find(|one| one["check"] == **promise);
        self.promises.iter().find_map(of)
    }

    /// What its entry begins with.
    pub(super) fn to_json(&self) -> Value {
        let workloads: Vec<&str> = self.workloads.iter().map(|one| one.word()).collect();
        json!({
            "bug": self.bug, "title": self.title, "workloads": workloads, "nemeses": self.nemeses, "lanes": self.lanes, "time_s": self.time.as_secs(),
            "rate": self.per_second, "settings": self.settings.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Words are unique, faults are known, and each promise is one of the checks of its workloads, or of every run.
    #[test]
    fn exhibits_are_complete() {
        let words: BTreeSet<&str> = EXHIBITS.iter().map(|exhibit| exhibit.bug).collect();
        assert_eq!(words.len(), EXHIBITS.len());
        for exhibit in &EXHIBITS {
            assert_eq!(exhibit.wanted().len(), exhibit.nemeses.len());
            assert!(!exhibit.promises.is_empty());
            for promise in exhibit.promises {
                let of_workload = promise.split_once(": ").map(|(word, _)| word);
                let has = |word| exhibit.workloads.iter().any(|workload| workload.word() == word);
                assert!(of_workload.is_none_or(has), "{}: {promise}", exhibit.bug);
            }
        }
        assert!(Exhibit::of("early-ack").is_some() && Exhibit::of("early").is_none());
    }

    /// Only the promise's own checks count, the first of them first.
    #[test]
    fn only_the_promise_counts() {
        let exhibit = Exhibit::of("early-ack").expect("there");
        let noticed = |checks: &[&str]| -> Vec<Value> { checks.iter().map(|check| json!({"check": check})).collect() };
        assert!(
            exhibit
                .caught_by(&noticed(&["no node panicked", "whole in the end"]))
                .is_none()
        );
        let both = noticed(&["whole in the end", "set: nothing is lost", "register: linearizable"]);
        assert_eq!(
            exhibit.caught_by(&both),
            Some(&json!({"check": "register: linearizable"}))
        );
    }
}
