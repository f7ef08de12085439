//! A Python that has boto3. Nothing is installed here: `scripts/prerequisites.sh failover` does that.

use std::path::{Path, PathBuf};

use crate::command;

/// Says where it is, if it has boto3.
const ASK: &str = "import boto3, sys; print(sys.executable)";
/// Written last into an environment, so that a half-made one is none.
const COMPLETE: &str = "complete";
/// What makes one.
const HINT: &str = "scripts/prerequisites.sh failover makes one";

/// The first that has it: those under the user's cache (that of the node's tests, too), then the machine's own. Where there is none: why.
pub async fn with_boto3() -> Result<PathBuf, String> {
    let mut candidates = cache().map(|cache| cached(&cache)).unwrap_or_default();
    candidates.push(PathBuf::from("python3"));
    let mut last = String::new();
    for candidate in candidates {
        let program = candidate.display().to_string();
        match command::run(&program, &["-c", ASK], &[]).await {
            Ok(path) => return Ok(PathBuf::from(path)),
            Err(error) => last = error.to_string(),
        }
    }
    let why = last.lines().last().unwrap_or_default().to_owned();
    Err(format!("there is no Python with boto3 ({why}); {HINT}"))
}

fn cache() -> Option<PathBuf> {
    let named = std::env::var_os("BLOX_CACHE").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/blox")))
}

/// The interpreters of all complete environments there, in the order of their names.
fn cached(cache: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let has_boto3 = |folder: &PathBuf| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        is_environment(name) && folder.join(COMPLETE).is_file()
    };
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).filter(has_boto3).collect();
    folders.sort();
    folders.into_iter().map(|folder| folder.join("bin/python")).collect()
}

/// moto is built on boto3.
fn is_environment(name: &str) -> bool {
    name.starts_with("boto3-") || name.starts_with("moto-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only what was made for it, and made to its end, is asked.
    #[test]
    fn half_made_environments_are_none() {
        let cache = std::env::temp_dir().join(format!("blox-python-{}", std::process::id()));
        for (name, complete) in [
            ("moto-5", true),
            ("boto3-2", false),
            ("boto3-1", true),
            ("promtool", true),
        ] {
            std::fs::create_dir_all(cache.join(name)).expect("a folder");
            if complete {
                std::fs::write(cache.join(name).join(COMPLETE), "").expect("a file");
            }
        }
        let found = cached(&cache);
        std::fs::remove_dir_all(&cache).expect("ours");
        assert_eq!(
            found,
            [cache.join("boto3-1/bin/python"), cache.join("moto-5/bin/python")]
        );
        assert!(cached(&cache).is_empty(), "no cache at all");
    }
}
