//! Watches held against the committed changes: the six promises, each a function of its own.
//!
//! A reader follows from a revision on, over as many connections as it takes; each goes on where the one before ended.

mod promises;

#[cfg(test)]
mod tests;

use super::verdict::{Findings, Verdict};
use crate::compare::Change;
use promises::{atomic, bookmarkable, committed, complete, ordered, readable, reliable, resumable, unique};

/// What was committed, in order, as a watch that nobody disturbed told it after the run.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    /// From this revision on.
    pub from: u64,
    /// Up to this one.
    pub until: u64,
    /// All changes of these revisions.
    pub changes: &'a [Change],
}

/// A line of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A change.
    Change(Change),
    /// Everything up to and including this revision was told.
    Bookmark(u64),
    /// Refused: the oldest revision that is kept.
    TooOld(u64),
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// To whom.
    pub node: String,
    /// The revision that was asked for; `None`: whatever comes next. Then it begins after the first bookmark.
    pub from: Option<u64>,
    /// What was told, in order.
    pub items: Vec<Item>,
    /// What could not be read of it, if it ended so: a whole line that is none of a watch.
    pub unreadable: Option<String>,
}

/// One reader.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// For people.
    pub name: String,
    /// One after another.
    pub connections: Vec<Connection>,
}

/// Judges all readers: the six promises, that only committed changes are told, in lines that can be read, and that each reader got to the end of the log; unknown where one did not.
pub fn check(log: Log<'_>, readers: &[Reader]) -> Verdict {
    let mut verdict = Verdict::Valid;
    for reader in readers {
        let told = Told::of(log, reader);
        let broken = [
            committed(&told),
            readable(&told),
            ordered(&told),
            unique(&told),
            atomic(&told),
            reliable(&told),
            resumable(&told),
            bookmarkable(&told),
        ];
        verdict = broken
            .into_iter()
            .fold(verdict, |verdict, findings| verdict.merge(findings.into()));
        verdict = verdict.merge(Verdict::of(Findings::default(), complete(&told)));
    }
    if readers.is_empty() {
        verdict = verdict.merge(Verdict::unknown("nobody watched"));
    }
    verdict
}

/// A change as it was told.
#[derive(Clone, Copy)]
struct Event {
    revision: u64,
    /// Where the log has it.
    position: Option<usize>,
}

/// A connection with its changes found in the log.
struct Part<'a> {
    connection: &'a Connection,
    /// The first revision that it owes.
    begins: Option<u64>,
    /// Where the next connection begins.
    next_begins: Option<u64>,
    events: Vec<Event>,
}

/// What a reader was told.
struct Told<'a> {
    log: Log<'a>,
    reader: &'a Reader,
    parts: Vec<Part<'a>>,
}

impl<'a> Told<'a> {
    fn of(log: Log<'a>, reader: &'a Reader) -> Told<'a> {
        let mut parts: Vec<Part<'a>> = Vec::new();
        for connection in &reader.connections {
            let changes = connection.items.iter().filter_map(|item| match item {
                Item::Change(change) => Some(Event {
                    revision: change.revision,
                    position: position(log, *change),
                }),
                Item::Bookmark(_) | Item::TooOld(_) => None,
            });
            let first = connection.items.first().map(|item| match item {
                Item::Bookmark(revision) => revision + 1,
                Item::Change(change) => change.revision,
                Item::TooOld(oldest) => *oldest,
            });
            let begins = connection.from.or(first);
            if let Some(last) = parts.last_mut() {
                last.next_begins = begins;
            }
            parts.push(Part {
                connection,
                begins,
                next_begins: None,
                events: changes.collect(),
            });
        }
        Told { log, reader, parts }
    }

    fn place(&self, part: &Part<'_>) -> String {
        let from = part.begins.map_or("now".to_owned(), |from| from.to_string());
        format!("{} on {} from {from}", self.reader.name, part.connection.node)
    }
}

fn position(log: Log<'_>, change: Change) -> Option<usize> {
    let begin = log.changes.partition_point(|other| other.revision < change.revision);
    let same = log.changes[begin..]
        .iter()
        .take_while(|other| other.revision == change.revision);
    same.clone()
        .position(|other| *other == change)
        .map(|ahead| begin + ahead)
}
