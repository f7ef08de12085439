//! What the containers said, kept beside the history; a panic in it fails the run.

use std::path::Path;

use super::StoryError;

/// What no node may ever say.
const NEVER: [&str; 3] = ["panicked", "assertion", "state differs from a majority"];

/// Writes a container's log and finds what must not be in it.
pub(super) fn keep(folder: &Path, name: &str, said: &[u8]) -> Result<Vec<String>, StoryError> {
    let folder = folder.join("logs");
    let path = folder.join(format!("{name}.log"));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, said))
        .map_err(|source| StoryError::NotWritten { path, source })?;
    Ok(never_said(name, &String::from_utf8_lossy(said)))
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
    }
}
