//! What the manual quotes and refers to.

use std::path::Path;

use super::{checkout, pages, read};

/// Folders whose sources hold the messages of a node.
const SOURCES: [&str; 7] = [
    "node/src",
    "raft/src",
    "store/src",
    "ecs/src",
    "scheduler/src",
    "api/src",
    "runtime/src",
];

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.push(as_said(&text));
        }
    }
}

/// A source with its strings as they are said: lines that a backslash joins are one.
fn as_said(source: &str) -> String {
    let mut said = String::new();
    for line in source.lines() {
        let joined = said.ends_with('\\');
        if joined {
            said.pop();
        }
        said.push_str(if joined { line.trim_start() } else { line });
        if !line.ends_with('\\') {
            said.push('\n');
        }
    }
    said.replace("\\\"", "\"")
}

/// The lines of a page's blocks marked `log`.
fn quoted(page: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```log";
        } else if inside {
            quoted.push(line.to_owned());
        }
    }
    quoted
}

/// The pieces of a message between what is filled in (`...`): all of them stand in one source, in order.
fn is_said(message: &str, source: &str) -> bool {
    let mut rest = source;
    message.split("...").filter(|piece| !piece.is_empty()).all(|piece| {
        let found = rest.find(piece);
        rest = found.map_or(rest, |start| &rest[start + piece.len()..]);
        found.is_some()
    })
}

/// A message that the manual quotes is one of the program's.
#[test]
fn quoted_messages_are_the_programs_own() {
    let mut sources = Vec::new();
    for folder in SOURCES {
        files(&checkout().join(folder), &mut sources);
    }
    let mut count = 0;
    for page in pages() {
        for message in quoted(&read(&page)) {
            assert!(
                sources.iter().any(|source| is_said(&message, source)),
                "{page} quotes what no source says: {message}"
            );
            count += 1;
        }
    }
    println!("{count} quotations");
    assert!(count > 0, "nothing is quoted: the search has lost its pages");
    assert!(!is_said(
        "the disk is ... happy",
        &as_said("\"the disk is {state} \\\n    full\"")
    ));
    assert!(is_said(
        "the disk is ... full",
        &as_said("\"the disk is {state} \\\n    full\"")
    ));
}

/// The targets of a page's links, without those that lead elsewhere.
fn links(page: &str) -> Vec<&str> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.contains(' '))
        .collect()
}

/// The name of a heading in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

/// A link leads to a file of this checkout, and to a heading in it where it names one.
#[test]
fn links_lead_somewhere() {
    let more = ["README.md", "ARCHITECTURE.md"].map(str::to_owned);
    for page in pages().into_iter().chain(more) {
        let text = read(&page);
        let folder = Path::new(&page).parent().expect("a page is in a folder");
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                checkout().join(&page)
            } else {
                checkout().join(folder).join(file)
            };
            assert!(target.exists(), "{page}: {link} leads nowhere");
            if !heading.is_empty() {
                let found = std::fs::read_to_string(&target).unwrap_or_default();
                let mut headings = found.lines().filter_map(|line| line.strip_prefix('#'));
                assert!(
                    headings.any(|line| anchor(line.trim_start_matches('#')) == heading),
                    "{page}: {link} names no heading"
                );
            }
        }
    }
}
