//! The promises, a function each: what a reader's record breaks of it.

use std::collections::HashSet;

use super::{Event, Item, Told};
use crate::check::verdict::Findings;
use crate::compare::Change;

/// Only what was committed is told; beyond the log's ends nothing is known.
pub(super) fn committed(told: &Told<'_>) -> Findings {
    let mut findings = Findings::default();
    for part in &told.parts {
        let foreign =
            |event: &&Event| event.position.is_none() && (told.log.from..=told.log.until).contains(&event.revision);
        for event in part.events.iter().filter(foreign) {
            findings.note(format!(
                "committed: {} tells a change at revision {} that never was",
                told.place(part),
                event.revision
            ));
        }
    }
    findings
}

/// Readable: every whole line is one of a watch.
pub(super) fn readable(told: &Told<'_>) -> Findings {
    let mut findings = Findings::default();
    for part in &told.parts {
        if let Some(line) = &part.connection.unreadable {
            findings.note(format!("readable: {} tells what is no line: {line}", told.place(part)));
        }
    }
    findings
}

/// Ordered: a connection tells changes in the order of the log.
pub(super) fn ordered(told: &Told<'_>) -> Findings {
    let mut findings = Findings::default();
    for part in &told.parts {
        let mut seen = HashSet::new();
        let mut last: Option<Event> = None;
        for event in &part.events {
            let back = last.is_some_and(|last| (event.revision, event.position) < (last.revision, last.position));
            if back && !seen.contains(&(event.revision, event.position)) {
                let last = last.map_or(0, |last| last.revision);
                findings.note(format!(
                    "ordered: {} tells revision {} after {last}",
                    told.place(part),
                    event.revision
                ));
            }
            seen.insert((event.revision, event.position));
            last = last
                .filter(|last| back && last.revision >= event.revision)
                .or(Some(*event));
        }
    }
    findings
}

/// Unique: nothing is told twice, but what a later connection asked for again.
pub(super) fn unique(told: &Told<'_>) -> Findings {
    let mut findings = Findings::default();
    let mut earlier: HashSet<usize> = HashSet::new();
    for part in &told.parts {
        let mut here = HashSet::new();
        for event in &part.events {
            let Some(position) = event.position else { continue };
            let asked = part.begins.is_none_or(|begins| event.revision >= begins);
            if !here.insert(position) || (!asked && earlier.contains(&position)) {
                findings.note(format!(
                    "unique: {} tells revision {} again",
                    told.place(part),
                    event.revision
                ));
            }
        }
        earlier.extend(here);
    }
    findings
}

/// Atomic: the changes of a revision come together and all of them, unless the connection breaks and the next asks for that revision again.
pub(super) fn atomic(told: &Told<'_>) -> Findings {
    let mut findings = Findings::default();
    for part in &told.parts {
        let mut last: Option<u64> = None;
        // Whether a bookmark came since the last change.
        let mut between = false;
        for item in &part.connection.items {
            match item {
                Item::Change(change) => {
                    if between && last == Some(change.revision) {
                        findings.note(format!(
                            "atomic: {} tells a bookmark within revision {}",
                            told.place(part),
                            change.revision
                        ));
                    }
                    (last, between) = (Some(change.revision), false);
                }
                Item::Bookmark(_) => between = true,
                Item::TooOld(_) => {}
            }
        }
        let here: HashSet<usize> = part.events.iter().filter_map(|event| event.position).collect();
        let mut judged = HashSet::new();
        for event in part.events.iter().filter(|event| event.position.is_some()) {
            if !judged.insert(event.revision) {
                continue;
            }
            let begin = told
                .log
                .changes
                .partition_point(|change| change.revision < event.revision);
            let end = told
                .log
                .changes
                .partition_point(|change| change.revision <= event.revision);
            let told_of_it = (begin..end).filter(|position| here.contains(position)).count();
            let torn =
                last == Some(event.revision) && !between && part.next_begins.is_none_or(|next| next <= event.revision);
            if told_of_it < end - begin && !torn {
                findings.note(format!(
                    "atomic: {} tells {told_of_it} of the {} changes of revision {}",
                    told.place(part),
                    end - begin,
                    event.revision
                ));
            }
        }
    }
    findings
}

/// Reliable: from where a connection begins up to the last change it tells, no revision is passed over.
pub(super) fn reliable(told: &Told<'_>) -> Findings {
    let mut findings = Findings::default();
    for part in &told.parts {
        let (Some(begins), Some(last)) = (part.begins, part.events.iter().map(|event| event.revision).max()) else {
            continue;
        };
        let revisions: HashSet<u64> = part.events.iter().map(|event| event.revision).collect();
        let begin = told.log.changes.partition_point(|change| change.revision < begins);
        let mut missing: Vec<u64> = told.log.changes[begin..]
            .iter()
            .map(|change| change.revision)
            .take_while(|revision| *revision < last)
            .filter(|revision| !revisions.contains(revision))
            .collect();
        missing.dedup();
        if let Some(first) = missing.first() {
            findings.note(format!(
                "reliable: {} passes over {} revisions, the first is {first}",
                told.place(part),
                missing.len()
            ));
        }
    }
    findings
}

/// Resumable: nothing older than what was asked for is told, and "too old" is said only of what is older than the oldest that is kept. What is kept only
/// becomes less: whatever is there in the end was there all the time.
pub(super) fn resumable(told: &Told<'_>) -> Findings {
    let mut findings = Findings::default();
    for part in &told.parts {
        let Some(from) = part.connection.from else { continue };
        for event in part.events.iter().filter(|event| event.revision < from) {
            findings.note(format!(
                "resumable: {} tells revision {}",
                told.place(part),
                event.revision
            ));
        }
        for item in &part.connection.items {
            let Item::TooOld(oldest) = item else { continue };
            if *oldest <= from || *oldest > told.log.from {
                findings.note(format!(
                    "resumable: {} is refused as too old for {oldest}, though {} is kept",
                    told.place(part),
                    told.log.from.min(*oldest)
                ));
            }
        }
    }
    findings
}

/// Bookmarkable: a bookmark comes after everything up to it and before everything beyond, and never goes back.
pub(super) fn bookmarkable(told: &Told<'_>) -> Findings {
    let mut findings = Findings::default();
    for part in &told.parts {
        let mut told_so_far = HashSet::new();
        let mut events = part.events.iter();
        let mut highest = 0;
        // All of the log before this was told, or is not owed.
        let begins = part.begins.unwrap_or(u64::MAX);
        let mut next = told.log.changes.partition_point(|change| change.revision < begins);
        for item in &part.connection.items {
            match item {
                Item::Change(change) => {
                    told_so_far.extend(events.next().and_then(|event| event.position));
                    if change.revision <= highest {
                        findings.note(format!(
                            "bookmarkable: {} tells revision {} after bookmark {highest}",
                            told.place(part),
                            change.revision
                        ));
                    }
                }
                Item::Bookmark(revision) => {
                    if *revision < highest {
                        findings.note(format!(
                            "bookmarkable: {} goes back from bookmark {highest} to {revision}",
                            told.place(part)
                        ));
                    }
                    highest = highest.max(*revision);
                    while let Some(change) = told.log.changes.get(next).filter(|change| change.revision <= *revision) {
                        if !told_so_far.contains(&next) {
                            findings.note(format!(
                                "bookmarkable: {} tells bookmark {revision} without revision {}",
                                told.place(part),
                                change.revision
                            ));
                        }
                        next += 1;
                    }
                    if *revision > told.log.until {
                        findings.note(format!(
                            "bookmarkable: {} tells bookmark {revision}, the log ends at {}",
                            told.place(part),
                            told.log.until
                        ));
                    }
                }
                Item::TooOld(_) => {}
            }
        }
    }
    findings
}

/// Whether the reader asked for everything and got to the end; otherwise its record proves less.
pub(super) fn complete(told: &Told<'_>) -> Findings {
    let mut open = Findings::default();
    let mut reached: Option<u64> = None;
    for part in &told.parts {
        if let (Some(reached), Some(begins)) = (reached, part.begins)
            && begins > reached + 1
        {
            open.note(format!("{} did not ask for what is after {reached}", told.place(part)));
        }
        for item in &part.connection.items {
            reached = match item {
                Item::Change(Change { revision, .. }) | Item::Bookmark(revision) => reached.max(Some(*revision)),
                // It has to begin anew, from there.
                Item::TooOld(oldest) => reached.max(Some(oldest.saturating_sub(1))),
            };
        }
    }
    if reached < Some(told.log.until) {
        let at = reached.map_or("nothing".to_owned(), |reached| format!("revision {reached}"));
        open.note(format!(
            "{} was told {at}, the log ends at {}",
            told.reader.name, told.log.until
        ));
    }
    open
}
