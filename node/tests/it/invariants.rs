//! The architecture invariants that a reader of the sources can hold: which crate names what, and which way dependencies point.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates of the workspace by folder, and what each may depend on among them.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("store", &[]),
    ("raft", &["store"]),
    ("ecs", &["store", "raft"]),
    ("scheduler", &["store", "raft"]),
    ("api", &["store", "raft"]),
    ("simulator", &[]),
    ("node", &["store", "raft", "ecs", "scheduler", "api", "simulator"]),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate stands in the workspace")
        .to_owned()
}

/// The sections of a manifest that name dependencies of the crate itself (tests may use more), as dependency names.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(workspace().join(folder).join("Cargo.toml")).expect("every crate has a manifest");
    let manifest: toml::Table = text.parse().expect("a manifest is TOML");
    let mut names = BTreeSet::new();
    for section in ["dependencies", "build-dependencies"] {
        if let Some(toml::Value::Table(table)) = manifest.get(section) {
            names.extend(table.keys().cloned());
        }
    }
    names
}

/// Every Rust source of a crate that is built into it.
fn sources(folder: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![workspace().join(folder).join("src")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).expect("a source directory can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source can be read");
                found.insert(path, text);
            }
        }
    }
    found
}

/// Whether a line of code (not of comment) names a crate: followed by `::`, or in a `use` or `extern crate`.
fn names_crate(text: &str, name: &str) -> bool {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .any(|line| {
            line.match_indices(name).any(|(start, _)| {
                let before = line[..start].chars().next_back();
                let whole = !before.is_some_and(|character| character.is_alphanumeric() || character == '_');
                let rest = &line[start + name.len()..];
                let rest = if name.ends_with('_') {
                    rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
                } else {
                    rest
                };
                whole
                    && (rest.starts_with("::")
                        || (line.trim_start().starts_with("use ")
                            && (rest.starts_with(';') || rest.starts_with(" as "))))
            })
        })
}

/// Names a crate only in these folders.
fn assert_only(name: &str, allowed: &[&str]) {
    for (folder, _) in ALLOWED {
        if allowed.contains(&folder) {
            continue;
        }
        for (path, text) in sources(folder) {
            assert!(
                !names_crate(&text, name),
                "{} names {name}, which only {allowed:?} may",
                path.display()
            );
        }
        let with_dashes = name.replace('_', "-");
        for dependency in dependencies(folder) {
            assert!(
                !dependency.starts_with(&with_dashes),
                "{folder}/Cargo.toml depends on {dependency}, which only {allowed:?} may"
            );
        }
    }
}

/// The table above has every crate of the workspace: a new one must be given its place.
#[test]
fn every_crate_has_its_place() {
    let manifest: toml::Table = fs::read_to_string(workspace().join("Cargo.toml"))
        .expect("the workspace has a manifest")
        .parse()
        .expect("TOML");
    let members: BTreeSet<String> = manifest["workspace"]["members"]
        .as_array()
        .expect("members are a list")
        .iter()
        .filter_map(|member| member.as_str().map(str::to_owned))
        .collect();
    let known: BTreeSet<String> = ALLOWED.iter().map(|(folder, _)| (*folder).to_owned()).collect();
    let missing: Vec<&String> = known.difference(&members).collect();
    assert!(missing.is_empty(), "not in the workspace: {missing:?}");
    for member in members.difference(&known) {
        let below = dependencies(member);
        for (folder, _) in ALLOWED {
            assert!(
                !dependencies(folder).contains(&format!("blox-{member}")),
                "{folder} depends on {member}, which has no place here: {below:?}"
            );
        }
    }
}

/// node -> {api, scheduler, ecs} -> raft -> store, and the simulator knows nothing of Blox.
#[test]
fn dependencies_point_one_way() {
    for (folder, allowed) in ALLOWED {
        for dependency in dependencies(folder) {
            if let Some(other) = dependency.strip_prefix("blox-") {
                assert!(allowed.contains(&other), "{folder} must not depend on {other}");
            }
        }
    }
}

/// Only `raft` names openraft: its traits change with every alpha.
#[test]
fn only_raft_names_openraft() {
    assert_only("openraft", &["raft"]);
}

/// Only `ecs` names the AWS SDK.
#[test]
fn only_ecs_names_the_aws_sdk() {
    assert_only("aws_", &["ecs"]);
}

/// Only `store` and the log of `raft` name RocksDB.
#[test]
fn only_store_and_the_log_name_rocksdb() {
    assert_only("rocksdb", &["store", "raft"]);
    for (path, text) in sources("raft") {
        let in_log = path
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("log"));
        assert!(
            in_log || !names_crate(&text, "rocksdb"),
            "{} names rocksdb, which in raft only its log may",
            path.display()
        );
    }
}

/// The state does no network I/O.
#[test]
fn the_state_does_no_network_input_or_output() {
    for (path, text) in sources("store") {
        for module in ["std::net", "tokio::net", "hyper", "reqwest", "tonic"] {
            assert!(
                !text.contains(module),
                "{} names {module}: the state does no network input or output",
                path.display()
            );
        }
    }
}

/// The search finds what it is for, and nothing else: a guard that cannot fail guards nothing.
#[test]
fn the_search_can_fail() {
    for code in [
        "use openraft::Raft;",
        "let x = openraft::Config::default();",
        "use openraft;",
        "use openraft as o;",
    ] {
        assert!(names_crate(code, "openraft"), "{code}");
    }
    for code in [
        "// openraft::Raft is hidden",
        "let my_openraft = 1;",
        "use crate::openraft_facade::X;",
    ] {
        assert!(!names_crate(code, "openraft"), "{code}");
    }
    assert!(names_crate("use aws_sdk_ecs::Client;", "aws_"));
    assert!(!names_crate("let aws_region = 1;", "aws_"));
}
