//! What the containers said, kept beside the history; a panic in it fails the run, and it tells a hand-over from an election.

use std::path::Path;

use super::StoryError;

/// What no node may ever say.
const NEVER: [&str; 5] = [
    "panicked",
    "assertion",
    "ALARM",
    "states of nodes differ",
    "terminate called",
];
/// What a leader says that left in order: nobody had to miss it first. (Where that fails it says "leadership was not handed over".)
const HANDED_OVER: &str = "handed leadership over";

/// Writes a container's log and finds what must not be in it.
pub(super) fn keep(folder: &Path, name: &str, said: &[u8]) -> Result<Vec<String>, StoryError> {
    let folder = folder.join("logs");
    let path = folder.join(format!("{name}.log"));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, said))
        .map_err(|source| StoryError::NotWritten { path, source })?;
    Ok(never_said(name, &String::from_utf8_lossy(said)))
}

/// How often a node has handed leadership over, by its own word.
pub(super) fn hand_overs(said: &[u8]) -> usize {
    let said = String::from_utf8_lossy(said);
    said.lines().filter(|line| line.contains(HANDED_OVER)).count()
}

fn never_said(name: &str, said: &str) -> Vec<String> {
    let bad = said.lines().filter(|line| NEVER.iter().any(|word| line.contains(word)));
    bad.map(|line| format!("{name} said: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic is found, and ordinary lines are not.
    #[test]
    fn panics_are_found() {
        let said = "INFO starts\nERROR thread 'main' panicked at raft/src/x.rs:1\nWARN the leader is gone\n";
        assert_eq!(
            never_said("node-1", said),
            ["node-1 said: ERROR thread 'main' panicked at raft/src/x.rs:1"]
        );
        assert!(never_said("node-1", "INFO starts\n").is_empty());
        let alarm = "ERROR ALARM: the states of nodes differ though they have applied the same log: ...";
        assert_eq!(never_said("node-1", alarm), [format!("node-1 said: {alarm}")]);
    }

    /// Each hand-over counts once; one that failed is none.
    #[test]
    fn hand_overs_are_counted() {
        let said = "INFO handed leadership over\nINFO stopped\nWARN leadership was not handed over; the others will elect error=x\nINFO handed leadership over\n";
        assert_eq!(hand_overs(said.as_bytes()), 2);
        assert_eq!(hand_overs(b""), 0);
    }
}
