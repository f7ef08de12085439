//! Streams of Blox 0.3's contract held against the committed changes of tasks or instances: in order, once, without a gap, from the revision that was asked
//! for. Deletions are not part of them, and nothing is told while nothing happens.

use std::collections::BTreeMap;

use super::verdict::{Findings, Verdict};

/// A line of such a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its `entityVersion`.
    pub revision: u64,
    /// Of the task or instance.
    pub arn: String,
}

/// One connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// To whom.
    pub node: String,
    /// The `entityVersion` that was asked for.
    pub from: u64,
    /// What was told, in order.
    pub told: Vec<Told>,
    /// It was refused, or told what is no line: what was said.
    pub wrong: Option<String>,
}

/// One reader: its connections one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// For people.
    pub name: String,
    /// Each goes on where the one before ended, or before that.
    pub connections: Vec<Connection>,
}

/// Judges readers of one kind. `log`: ARNs of that kind by the revision of each change that is no deletion, all there were. Unknown where a reader did not
/// get to the end.
pub fn check(log: &BTreeMap<u64, String>, readers: &[Reader]) -> Verdict {
    let (mut violations, mut open) = (Findings::default(), Findings::default());
    for reader in readers {
        let mut reached = 0;
        for connection in &reader.connections {
            if connection.from > reached + 1 {
                open.note(format!("{} did not ask for what is after {reached}", reader.name));
            }
            let place = format!("{} on {} from {}", reader.name, connection.node, connection.from);
            judge(log, connection, &place, &mut violations);
            reached = connection
                .told
                .last()
                .map_or(reached, |last| last.revision.max(reached));
        }
        let last = log.last_key_value().map_or(0, |(revision, _)| *revision);
        if reached < last {
            open.note(format!(
                "{} was told revision {reached}, the last one is {last}",
                reader.name
            ));
        }
    }
    if readers.is_empty() {
        open.note("nobody read it");
    }
    Verdict::of(violations, open)
}

fn judge(log: &BTreeMap<u64, String>, connection: &Connection, place: &str, violations: &mut Findings) {
    if let Some(said) = &connection.wrong {
        violations.note(format!("{place}: {said}"));
    }
    // The next revision that it owes.
    let mut next = connection.from;
    for Told { revision, arn } in &connection.told {
        if log.get(revision) != Some(arn) {
            violations.note(format!("{place} tells {arn} at revision {revision}, which never was"));
        } else if *revision < connection.from {
            violations.note(format!("{place} tells revision {revision}"));
        } else if *revision < next {
            violations.note(format!("{place} tells revision {revision} again, or too late"));
        } else if let Some((missing, _)) = log.range(next..*revision).next() {
            violations.note(format!("{place} passes over revision {missing} before {revision}"));
        }
        next = next.max(revision + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{refuted, undecided};

    /// Changes at revisions 2, 3, 5 and 8.
    fn log() -> BTreeMap<u64, String> {
        [(2, "a"), (3, "b"), (5, "a"), (8, "c")]
            .map(|(revision, arn)| (revision, arn.to_owned()))
            .into()
    }

    fn connection(from: u64, told: &[(u64, &str)]) -> Connection {
        let line = |(revision, arn): &(u64, &str)| Told {
            revision: *revision,
            arn: (*arn).to_owned(),
        };
        Connection {
            node: "n".to_owned(),
            from,
            told: told.iter().map(line).collect(),
            wrong: None,
        }
    }

    fn judged(connections: Vec<Connection>) -> Verdict {
        let name = "r".to_owned();
        check(&log(), &[Reader { name, connections }])
    }

    /// In one go, over connections, and some of it again.
    #[test]
    fn good_readers() {
        let whole = connection(1, &[(2, "a"), (3, "b"), (5, "a"), (8, "c")]);
        assert_eq!(judged(vec![whole]), Verdict::Valid);
        let parts = vec![
            connection(1, &[(2, "a"), (3, "b")]),
            connection(4, &[]),
            connection(3, &[(3, "b"), (5, "a")]),
            connection(6, &[(8, "c")]),
        ];
        assert_eq!(judged(parts), Verdict::Valid);
    }

    /// Each way to be wrong.
    #[test]
    fn bad_readers() {
        let one = |told: &[(u64, &str)]| judged(vec![connection(1, told)]);
        refuted(&one(&[(2, "a"), (5, "a"), (8, "c")]), "passes over revision 3 before 5");
        refuted(&one(&[(3, "b"), (5, "a"), (8, "c")]), "passes over revision 2 before 3");
        let repeated = [(2, "a"), (3, "b"), (3, "b"), (5, "a"), (8, "c")];
        refuted(&one(&repeated), "tells revision 3 again");
        let disorder = [(2, "a"), (5, "a"), (3, "b"), (8, "c")];
        refuted(&one(&disorder), "tells revision 3 again, or too late");
        let foreign = [(2, "a"), (3, "c"), (5, "a"), (8, "c")];
        refuted(&one(&foreign), "tells c at revision 3, which never was");
        refuted(&one(&[(4, "b")]), "tells b at revision 4, which never was");
        let gap = vec![connection(1, &[(2, "a"), (3, "b")]), connection(4, &[(8, "c")])];
        refuted(&judged(gap), "r on n from 4 passes over revision 5 before 8");
        let early = vec![
            connection(1, &[(2, "a"), (3, "b"), (5, "a")]),
            connection(6, &[(5, "a"), (8, "c")]),
        ];
        refuted(&judged(early), "r on n from 6 tells revision 5");
        let mut wrong = connection(1, &[]);
        wrong.wrong = Some("it answers 400".to_owned());
        refuted(&judged(vec![wrong]), "r on n from 1: it answers 400");
    }

    /// A reader that stopped early, or passed over something itself.
    #[test]
    fn what_proves_nothing() {
        let short = vec![connection(1, &[(2, "a"), (3, "b")])];
        undecided(&judged(short), "r was told revision 3, the last one is 8");
        let skipped = vec![connection(1, &[(2, "a")]), connection(8, &[(8, "c")])];
        undecided(&judged(skipped), "did not ask for what is after 2");
        undecided(&check(&log(), &[]), "nobody read it");
    }
}
