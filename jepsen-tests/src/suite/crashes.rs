//! What the nodes' logs say of their processes: nothing that must never be said, and no start without a reason.

use std::ops::Range;

use clap::ValueEnum;

use super::folder::{Folder, FolderError};
use super::lives;
use crate::check::faults::Fault;
use crate::check::{Verdict, crash};
use crate::nemesis::Nemesis;

/// After a fault a node may start so late, nanoseconds: Docker waits longer and longer before it starts again what ends again and again.
const START_NS_MAX: u64 = 60_000_000_000;

/// What is known of a run beside its logs; times are those of the history's clock, nanoseconds.
pub(super) struct Course<'a> {
    /// What was done.
    pub(super) faults: &'a [Fault],
    /// When the load began: nodes may have tried before.
    pub(super) load_ns: u64,
    /// When that clock began, since 1970.
    pub(super) zero_ns: u64,
    /// Times are allowed so many times as long.
    pub(super) patience: u64,
}

/// Judges the logs of all nodes.
pub(super) fn judge(folder: &Folder, nodes: &[String], course: &Course<'_>) -> Result<Verdict, FolderError> {
    let mut verdict = Verdict::Valid;
    for node in nodes {
        let logs = folder.logs_of(node)?;
        if logs.is_empty() {
            verdict = verdict.merge(Verdict::unknown(format!("no log of {node} was kept")));
            continue;
        }
        for (name, path) in logs {
            let log = folder.read(&path)?;
            verdict = verdict.merge(crash::check(&name, log.as_bytes(), &[]));
        }
        let starts = lives::starts(folder, node)?.since(course.zero_ns);
        // However often it was started before the load, that is one beginning.
        let early = starts.partition_point(|at_ns| *at_ns < course.load_ns);
        let starts = &starts[early.saturating_sub(1)..];
        verdict = verdict.merge(crash::starts(node, starts, &may_start(node, course)));
    }
    Ok(verdict)
}

/// When a node may start again.
fn may_start(node: &str, course: &Course<'_>) -> Vec<Range<u64>> {
    let all = course.faults.iter().filter(|fault| fault.fell_on(node));
    let span = |fault: &Fault| {
        let kind = Nemesis::from_str(&fault.name, false).ok();
        let late_ns = match kind {
            Some(kind) if !may_end(kind) => return None,
            // Damage that nobody has read yet ends the process when somebody does.
            Some(Nemesis::BitFlip | Nemesis::Truncate | Nemesis::Zero) => None,
            _ => Some(START_NS_MAX * course.patience),
        };
        let until_ns = fault
            .until_ns
            .zip(late_ns)
            .map(|(until_ns, late_ns)| until_ns + late_ns);
        Some(fault.from_ns..until_ns.unwrap_or(u64::MAX))
    };
    all.filter_map(span).collect()
}

/// Whether a process may end by it. What is not known here may.
fn may_end(nemesis: Nemesis) -> bool {
    use Nemesis::{Clock, Cut, Flap, Halves, Isolate, LogBlock, Loss, Pause, Ring, Strobe};
    !matches!(
        nemesis,
        Pause | Isolate | Halves | Ring | Cut | Flap | Loss | LogBlock | Clock | Strobe
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{refuted, undecided};

    const SECOND: u64 = 1_000_000_000;

    fn fault(name: &str, target: &str, until_ns: Option<u64>) -> Fault {
        Fault {
            name: name.into(),
            target: target.to_owned(),
            from_ns: 10 * SECOND,
            until_ns,
            effects: vec!["seen".to_owned()],
            hindered: false,
        }
    }

    /// Judges a node that started at second 1 and at `second`, counted from 1970, in a run whose load began at second 5.
    fn judged(name: &str, second: u64, fault: Fault) -> Verdict {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-crashes-{name}-{}", std::process::id())));
        let line = |second: u64| {
            format!(
                "1970-01-01T00:{:02}:{:02}Z x INFO n blox::run: starts version=1\n",
                second / 60,
                second % 60
            )
        };
        let path = folder.logs().join("node-1-abc.log");
        folder
            .write(&path, format!("{}{}", line(1), line(second)))
            .expect("writable");
        let course = Course {
            faults: &[fault],
            load_ns: 5 * SECOND,
            zero_ns: 0,
            patience: 1,
        };
        let verdict = judge(&folder, &["node-1".to_owned()], &course).expect("readable");
        std::fs::remove_dir_all(folder.path()).expect("removable");
        verdict
    }

    /// A node that was killed comes back; one that was only cut off, or not meant at all, does not have to.
    #[test]
    fn starts_are_held_against_faults() {
        let until = Some(12 * SECOND);
        let kill = || fault("kill", "one node-1 #1", until);
        assert_eq!(judged("killed", 13, kill()), Verdict::Valid);
        assert_eq!(judged("before", 4, kill()), Verdict::Valid, "the load had not begun");
        refuted(&judged("late", 73, kill()), "node-1 started again at 73.0 s");
        let again = "though nothing was done to it that ends a process";
        refuted(&judged("cut", 13, fault("isolate", "one node-1 #1", until)), again);
        refuted(&judged("other", 13, fault("kill", "one node-2 #1", until)), again);
        assert_eq!(
            judged("latent", 900, fault("bit-flip", "one node-1 #1", until)),
            Verdict::Valid
        );
        assert_eq!(
            judged("open", 900, fault("kill", "minority node-1 #1", None)),
            Verdict::Valid
        );
    }

    /// A node of which nothing was kept.
    #[test]
    fn no_log_is_no_proof() {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-crashes-none-{}", std::process::id())));
        folder
            .write(&folder.logs().join("node-2-abc.log"), "x")
            .expect("writable");
        let course = Course {
            faults: &[],
            load_ns: 0,
            zero_ns: 0,
            patience: 1,
        };
        let verdict = judge(&folder, &["node-1".to_owned()], &course).expect("readable");
        std::fs::remove_dir_all(folder.path()).expect("removable");
        undecided(&verdict, "no log of node-1 was kept");
    }
}
