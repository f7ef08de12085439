//! Events of ECS: every one that reached the queue is in the state in the end, versions are right and never go back, and nothing is deleted from the
//! queue before it is committed.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::verdict::{Findings, Verdict};

/// An event as ECS sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Of the task or instance.
    pub arn: String,
    /// ECS's own.
    pub version: u64,
    /// Copies that reached the queue: none where it was lost on the way.
    pub queued: usize,
    /// When each copy that is gone was deleted from the queue, by ECS's clock, milliseconds.
    pub deleted_ms: Vec<u64>,
}

impl Sent {
    /// From an event of the simulator's `/control/journal`: `{"arn", "version", "messages": [{"deleted_ms"}, ..]}`. An error says what is missing.
    pub fn of(event: &Value) -> Result<Sent, String> {
        let missing = |what: &str| format!("an event of the journal has no {what}: {event}");
        let messages = event["messages"].as_array().ok_or_else(|| missing("messages"))?;
        Ok(Sent {
            arn: event["arn"].as_str().ok_or_else(|| missing("arn"))?.to_owned(),
            version: event["version"].as_u64().ok_or_else(|| missing("version"))?,
            queued: messages.len(),
            deleted_ms: messages
                .iter()
                .filter_map(|message| message["deleted_ms"].as_u64())
                .collect(),
        })
    }
}

/// A change of a record, as a watch told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whose.
    pub arn: String,
    /// Of the change.
    pub revision: u64,
    /// The version that is shown from then on; `None`: the record was deleted.
    pub version: Option<u64>,
    /// When the change was proposed, by a clock that agrees with ECS's to [`CLOCKS_MS`]; `None` where it does not.
    pub proposed_ms: Option<u64>,
}

/// A linearizable read of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Whose.
    pub arn: String,
    /// When it began, by a clock that agrees with ECS's to [`CLOCKS_MS`].
    pub began_ms: u64,
    /// The version that it showed; `None`: no such record.
    pub version: Option<u64>,
}

/// How far clocks of one machine that nobody moves may be apart, milliseconds.
pub const CLOCKS_MS: u64 = 50;

/// Everything that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Every event of ECS.
    pub sent: Vec<Sent>,
    /// Every change of tasks and instances, in the order of revisions.
    pub changes: Vec<Shown>,
    /// Reads in between, where there were any.
    pub reads: Vec<Read>,
    /// Versions in the end, by ARN.
    pub last: BTreeMap<String, u64>,
    /// Messages that are still in the queue, whatever they hold.
    pub waiting: usize,
}

/// What ECS did with one resource.
#[derive(Default)]
struct Events<'a> {
    highest_sent: u64,
    highest_queued: Option<u64>,
    /// Of every copy that was deleted: when, and its event.
    deleted: Vec<(u64, &'a Sent)>,
}

/// Judges a run; without events, or with a queue that is not empty, it is unknown at best.
pub fn check(record: &Record) -> Verdict {
    let (mut violations, mut open) = (Findings::default(), Findings::default());
    let mut resources: BTreeMap<&str, Events<'_>> = BTreeMap::new();
    for event in &record.sent {
        let resource = resources.entry(&event.arn).or_default();
        resource.highest_sent = resource.highest_sent.max(event.version);
        if event.queued > 0 {
            resource.highest_queued = resource.highest_queued.max(Some(event.version));
        }
        resource
            .deleted
            .extend(event.deleted_ms.iter().map(|at_ms| (*at_ms, event)));
    }
    let mut changes: HashMap<&str, Vec<&Shown>> = HashMap::new();
    for change in &record.changes {
        changes.entry(&change.arn).or_default().push(change);
    }
    for (arn, events) in &mut resources {
        events.deleted.sort_by_key(|(at_ms, _)| *at_ms);
        let changes = changes.get(arn).map_or(&[][..], Vec::as_slice);
        right(arn, events, changes, record.last.get(*arn).copied(), &mut violations);
        present(arn, events, changes, record.last.get(*arn).copied(), &mut violations);
        committed_first(events, changes, &mut violations);
    }
    for read in &record.reads {
        let (Some(events), shown) = (resources.get(read.arn.as_str()), changes.get(read.arn.as_str())) else {
            continue;
        };
        let forgotten = shown.is_some_and(|shown| shown.iter().any(|change| change.version.is_none()));
        let before = events
            .deleted
            .partition_point(|(at_ms, _)| at_ms + CLOCKS_MS < read.began_ms);
        let gone = events.deleted[..before].iter().max_by_key(|(_, event)| event.version);
        if let Some((at_ms, event)) =
            gone.filter(|(_, event)| read.version < Some(event.version) && !(read.version.is_none() && forgotten))
        {
            violations.note(format!(
                "version {} of {} was deleted from the queue at {at_ms} ms, and a read that began at {} ms shows {}",
                event.version,
                read.arn,
                read.began_ms,
                version_of(read.version)
            ));
        }
    }
    if !record.sent.iter().any(|event| event.queued > 0) {
        open.note("no event reached the queue");
    }
    if record.waiting > 0 {
        open.note(format!("{} messages are still in the queue", record.waiting));
    }
    Verdict::of(violations, open)
}

/// Versions are ECS's, and go forwards while the record is there.
fn right(arn: &str, events: &Events<'_>, changes: &[&Shown], last: Option<u64>, violations: &mut Findings) {
    let shown = changes
        .iter()
        .map(|change| (change.version, format!("at revision {}", change.revision)));
    for (version, place) in shown.chain([(last, "in the end".to_owned())]) {
        if version > Some(events.highest_sent) {
            violations.note(format!(
                "{arn} shows {} {place}, ECS's last one is {}",
                version_of(version),
                events.highest_sent
            ));
        }
    }
    for pair in changes.windows(2) {
        if pair[1].version.is_some() && pair[1].version < pair[0].version {
            violations.note(format!(
                "{arn} goes back from {} at revision {} to {} at {}",
                version_of(pair[0].version),
                pair[0].revision,
                version_of(pair[1].version),
                pair[1].revision
            ));
        }
    }
}

/// What reached the queue is there, or was there and then deleted.
fn present(arn: &str, events: &Events<'_>, changes: &[&Shown], last: Option<u64>, violations: &mut Findings) {
    let Some(queued) = events.highest_queued.filter(|queued| last < Some(*queued)) else {
        return;
    };
    let was_there = changes.iter().any(|change| change.version >= Some(queued));
    let deleted = changes.last().is_some_and(|change| change.version.is_none());
    if !(was_there && deleted && last.is_none()) {
        let gone = events.deleted.iter().any(|(_, event)| event.version == queued);
        let but = if gone { ", and is no longer in the queue" } else { "" };
        violations.note(format!(
            "version {queued} of {arn} reached the queue{but}; the state ends with {}",
            version_of(last)
        ));
    }
}

/// No change was proposed only after the event that it needs had been deleted from the queue.
fn committed_first(events: &Events<'_>, changes: &[&Shown], violations: &mut Findings) {
    for (at_ms, event) in &events.deleted {
        let first = changes.iter().find(|change| change.version >= Some(event.version));
        let Some((change, proposed_ms)) = first.and_then(|change| Some((change, change.proposed_ms?))) else {
            continue;
        };
        if proposed_ms > at_ms + CLOCKS_MS {
            violations.note(format!(
                "version {} of {} was deleted from the queue at {at_ms} ms, and proposed at {proposed_ms} ms, for revision {}",
                event.version, event.arn, change.revision
            ));
        }
    }
}

fn version_of(version: Option<u64>) -> String {
    version.map_or("no record".to_owned(), |version| format!("version {version}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::testing::{refuted, undecided};

    fn sent(arn: &str, version: u64, queued: usize, deleted_ms: &[u64]) -> Sent {
        Sent {
            arn: arn.to_owned(),
            version,
            queued,
            deleted_ms: deleted_ms.to_vec(),
        }
    }

    fn shown(arn: &str, revision: u64, version: u64, proposed_ms: u64) -> Shown {
        Shown {
            arn: arn.to_owned(),
            revision,
            version: (version > 0).then_some(version),
            proposed_ms: Some(proposed_ms),
        }
    }

    fn read(arn: &str, began_ms: u64, version: u64) -> Read {
        Read {
            arn: arn.to_owned(),
            began_ms,
            version: (version > 0).then_some(version),
        }
    }

    /// Duplicates, an event that never reached the queue, an order that is not ECS's, a record that was deleted later.
    fn good() -> Record {
        Record {
            sent: vec![
                sent("a", 1, 2, &[1_000, 1_400]),
                sent("a", 2, 0, &[]),
                sent("a", 3, 1, &[1_200]),
                sent("b", 1, 1, &[1_300]),
                sent("c", 7, 0, &[]),
            ],
            changes: vec![
                shown("a", 10, 1, 900),
                shown("a", 11, 3, 1_100),
                shown("b", 12, 1, 1_240),
                shown("b", 13, 0, 2_000),
            ],
            reads: vec![
                read("a", 1_100, 1),
                read("a", 1_300, 3),
                read("b", 3_000, 0),
                read("a", 1_010, 0),
            ],
            last: BTreeMap::from([("a".to_owned(), 3)]),
            waiting: 0,
        }
    }

    #[test]
    fn a_good_run() {
        assert_eq!(check(&good()), Verdict::Valid);
    }

    /// Each way to be wrong.
    #[test]
    fn bad_runs() {
        let with = |change: fn(&mut Record)| {
            let mut record = good();
            change(&mut record);
            check(&record)
        };
        refuted(
            &with(|one| {
                one.last.insert("a".to_owned(), 2);
            }),
            "version 3 of a reached the queue, and is no longer in the queue; the state ends with version 2",
        );
        refuted(
            &with(|one| {
                one.last.remove("a");
            }),
            "the state ends with no record",
        );
        refuted(
            &with(|one| {
                one.changes.retain(|change| change.arn == "a");
            }),
            "version 1 of b reached the queue",
        );
        refuted(
            &with(|one| {
                one.last.insert("a".to_owned(), 4);
            }),
            "a shows version 4 in the end, ECS's last one is 3",
        );
        refuted(
            &with(|one| one.changes[0].version = Some(9)),
            "a shows version 9 at revision 10",
        );
        refuted(
            &with(|one| one.changes.push(shown("a", 14, 2, 2_100))),
            "a goes back from version 3 at revision 11 to version 2 at 14",
        );
        refuted(
            &with(|one| one.reads.push(read("a", 1_300, 1))),
            "a read that began at 1300 ms shows version 1",
        );
        refuted(&with(|one| one.reads.push(read("a", 1_300, 0))), "shows no record");
        refuted(
            &with(|one| one.changes[1].proposed_ms = Some(1_300)),
            "deleted from the queue at 1200 ms, and proposed at 1300 ms, for revision 11",
        );
    }

    /// An empty run, and a queue that still holds something.
    #[test]
    fn what_proves_nothing() {
        undecided(&check(&Record::default()), "no event reached the queue");
        undecided(
            &check(&Record { waiting: 2, ..good() }),
            "2 messages are still in the queue",
        );
    }

    /// The journal's own form.
    #[test]
    fn the_journal_is_read() {
        let event = json!({"number": 4, "arn": "a", "version": 3, "messages": [{"sent_ms": 1, "deleted_ms": 9}, {"sent_ms": 2}]});
        assert_eq!(Sent::of(&event), Ok(sent("a", 3, 2, &[9])));
        assert!(Sent::of(&json!({"arn": "a", "version": 3})).is_err_and(|why| why.contains("no messages")));
    }
}
