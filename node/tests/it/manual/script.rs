//! Commands in a document: its fenced blocks marked `console`.
//!
//! `$ COMMAND` is said where node-1 runs, `[node-3]$ COMMAND` where that one does; after a backslash at its end it goes on in the next line. What
//! follows, up to the next prompt, is what it prints: `...` stands for any text, alone in a line for any lines. Where nothing follows, anything may.

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Its line in the document, from 1.
    pub line: usize,
    /// Position of the node where it is said.
    pub host: usize,
    pub command: String,
    /// What it prints; empty: anything.
    pub printed: Vec<String>,
}

/// All commands, in order.
pub fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    let mut goes_on = false;
    for (number, line) in document.lines().enumerate() {
        if line.starts_with("```") {
            (inside, goes_on) = (line == "```console", false);
        } else if !inside {
            continue;
        } else if let Some((host, command)) = prompt(line) {
            goes_on = command.ends_with('\\');
            steps.push(Step {
                line: number + 1,
                host,
                command: command.to_owned(),
                printed: Vec::new(),
            });
        } else {
            let step = steps.last_mut().expect("a block begins with a prompt");
            if goes_on {
                step.command = format!("{}\n{line}", step.command);
                goes_on = line.ends_with('\\');
            } else {
                step.printed.push(line.trim_end().to_owned());
            }
        }
    }
    steps
}

/// Position of the node and the command, where the line has a prompt.
fn prompt(line: &str) -> Option<(usize, &str)> {
    if let Some(command) = line.strip_prefix("$ ") {
        return Some((0, command));
    }
    let (number, command) = line.strip_prefix("[node-")?.split_once("]$ ")?;
    let number: usize = number.parse().ok()?;
    Some((number.checked_sub(1)?, command))
}

/// Whether lines are those that were promised.
pub fn is_printed(promised: &[String], lines: &[&str]) -> bool {
    match promised.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|left_out| is_printed(rest, &lines[left_out..])),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, more)| fits(first, line.trim_end()) && is_printed(rest, more)),
    }
}

/// Whether a line is what a pattern with `...` says.
fn fits(pattern: &str, line: &str) -> bool {
    let parts: Vec<&str> = pattern.split("...").collect();
    let Some((last, before)) = parts.split_last().filter(|(_, before)| !before.is_empty()) else {
        return pattern == line;
    };
    let mut rest = line;
    for (position, part) in before.iter().enumerate() {
        let found = if position == 0 {
            rest.starts_with(part).then_some(0)
        } else {
            rest.find(part)
        };
        match found {
            Some(start) => rest = &rest[start + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What is read, and what is refused: a reader that takes everything proves nothing.
#[test]
fn commands_are_read_as_they_stand() {
    let document =
        "text\n```sh\n$ not this\n```\n```console\n$ one \\\n  more\nfirst ... line\n...\nlast\n[node-3]$ two\n```\n";
    let read = steps(document);
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].command, "one \\\n  more");
    assert_eq!((read[1].host, read[1].command.as_str(), read[1].line), (2, "two", 11));
    let printed = |lines: &[&str]| is_printed(&read[0].printed, lines);
    assert!(printed(&["first long line", "last"]));
    assert!(printed(&["first long line", "between", "between", "last  "]));
    for wrong in [
        &["first long line"][..],
        &["first lines", "last"],
        &["the first long line", "last"],
        &["first long line", "last", "more"],
    ] {
        assert!(!printed(wrong), "{wrong:?}");
    }
}
