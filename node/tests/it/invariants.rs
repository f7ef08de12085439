//! The architecture invariants that a reader of the sources can hold: which crate names what, and which way dependencies point.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates of the workspace by folder, and what each may depend on among them.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("runtime", &[]),
    ("store", &["runtime"]),
    ("raft", &["runtime", "store"]),
    ("ecs", &["runtime", "store", "raft"]),
    ("scheduler", &["runtime", "store", "raft"]),
    ("api", &["store", "raft"]),
    ("simulator", &[]),
    ("node", &["store", "raft", "ecs", "scheduler", "api", "simulator"]),
    // These drive what users run, from outside.
    ("jepsen-tests", &[]),
    ("bench", &[]),
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
    assert_only("openraft", &["raft", "runtime"]);
    // The seam names its runtime traits, never openraft itself.
    for (path, text) in sources("runtime") {
        assert!(!names_crate(&text, "openraft"), "{} names openraft", path.display());
    }
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

/// No release has crash points: its build names no feature, the feature is not a default one, and no profile but the tests' compiles it.
#[test]
fn no_release_has_crash_points() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).expect("a file of the workspace can be read");
    let makefile = read("Makefile");
    let build: Vec<&str> = makefile
        .lines()
        .skip_while(|line| !line.starts_with("build:"))
        .skip(1)
        .take_while(|line| line.starts_with('\t'))
        .collect();
    assert!(build.iter().any(|line| line.contains("cargo build")), "{build:?}");
    assert!(
        !build.iter().any(|line| line.to_lowercase().contains("feature")),
        "{build:?}"
    );

    let manifest: toml::Table = read("node/Cargo.toml").parse().expect("a manifest is TOML");
    assert!(
        manifest["features"].get("default").is_none(),
        "nothing is on by default"
    );
    assert!(read("node/src/failpoints.rs").contains("#[cfg(not(debug_assertions))]\ncompile_error!"));
    assert_eq!(
        profiles_with_debug_assertions(&read("Cargo.toml")),
        ["zoo"],
        "a release has none, and so cannot compile the feature"
    );
}

/// Profiles of a manifest that have debug assertions although they need not.
fn profiles_with_debug_assertions(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let profiles = manifest["profile"].as_table().expect("the workspace has profiles");
    let has = |profile: &toml::Value| profile.get("debug-assertions") == Some(&toml::Value::Boolean(true));
    let with = profiles.iter().filter(|(_, profile)| has(profile));
    with.map(|(name, _)| name.clone()).collect()
}

/// Crates that can carry bugs of the zoo.
const ZOO: [&str; 6] = ["runtime", "store", "raft", "ecs", "scheduler", "node"];

/// No release has bugs of the zoo: the feature is on nowhere by default, only its own profile compiles it, and only `make zoo` and the linter ask for it.
#[test]
fn no_release_has_the_zoo() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).expect("a file of the workspace can be read");
    for folder in ZOO {
        let manifest: toml::Table = read(&format!("{folder}/Cargo.toml")).parse().expect("TOML");
        let default = manifest["features"].get("default").map(toml::Value::to_string);
        assert!(!default.unwrap_or_default().contains("zoo"), "{folder}");
    }
    for path in ["runtime/src/zoo.rs", "node/src/zoo.rs"] {
        assert!(
            read(path).contains("#[cfg(not(debug_assertions))]\ncompile_error!"),
            "{path}"
        );
    }
    let makefile = read("Makefile");
    let asks = makefile
        .lines()
        .filter(|line| line.to_lowercase().contains("features") && line.contains("zoo"));
    assert_eq!(
        asks.collect::<Vec<_>>(),
        [
            "\tcargo test --locked --quiet -p blox-runtime --features zoo",
            "\tcargo build --locked --profile zoo -p blox-node --features zoo",
            "\tcargo clippy --locked --workspace --features $(TEST_FEATURES),blox-node/zoo -- -D warnings",
        ]
    );
    for path in [
        "deploy/Dockerfile",
        "deploy/Dockerfile.packed",
        "deploy/image.sh",
        "docker-compose.yml",
    ] {
        assert!(!read(path).contains("zoo"), "{path}");
    }
}

/// Lines of code that name the zoo and are not behind its feature: by the attribute on the line before.
fn outside_the_zoo(text: &str) -> Vec<&str> {
    const FEATURE: &str = "#[cfg(feature = \"zoo\")]";
    let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
    let lines: Vec<&str> = text.lines().collect();
    let mut outside = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let is_behind = number > 0 && code(lines[number - 1]) == FEATURE;
        if code(line).contains("zoo") && code(line) != FEATURE && !is_behind {
            outside.push(*line);
        }
    }
    outside
}

/// Whoever reads the code sees at each place what is of the zoo; what needs more than a line stands in a file of that name.
#[test]
fn the_zoo_is_behind_its_feature() {
    for folder in ZOO.into_iter().chain(["api", "simulator"]) {
        for (path, text) in sources(folder) {
            let outside = outside_the_zoo(&text);
            let own = path.ends_with("zoo.rs");
            assert!(own || outside.is_empty(), "{}: {outside:?}", path.display());
        }
    }
    assert_eq!(
        outside_the_zoo("#[cfg(feature = \"zoo\")]\nmod zoo;\n// a zoo\nfn a() {}").len(),
        0
    );
    assert_eq!(
        outside_the_zoo("fn a() {}\nmod zoo;\n#[cfg(feature = \"zoo\")]\nzoo::a();\nzoo::b();").len(),
        2
    );
}

/// The failure tests know the same bugs as the nodes: they depend on none of these crates.
#[test]
fn the_zoo_has_one_list() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).expect("a file of the workspace can be read");
    let quoted = |text: &str, before: &str| -> BTreeSet<String> {
        let parts = text.split(before).skip(1);
        parts
            .filter_map(|part| part.split('"').next().map(str::to_owned))
            .collect()
    };
    let of_nodes = read("runtime/src/zoo.rs");
    let words = of_nodes
        .split("pub fn word")
        .nth(1)
        .and_then(|rest| rest.split("pub fn title").next());
    let nodes = quoted(words.expect("bugs have words"), "=> \"");
    let tests = quoted(&read("jepsen-tests/src/suite/zoo/exhibits.rs"), "        bug: \"");
    assert_eq!(nodes.len(), 12, "{nodes:?}");
    assert_eq!(nodes, tests);
}

/// A source without its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// What of `text` reaches past the seam: time, tasks and random numbers that are not `runtime`'s, and choices by lot.
fn past_the_seam(text: &str) -> Option<&'static str> {
    const PAST: [&str; 9] = [
        "tokio::time",
        "tokio::spawn",
        "tokio::task::spawn",
        "tokio::sync::watch",
        "std::time::Instant",
        "SystemTime::now",
        "Uuid::new_v4",
        "rand::",
        "futures::select!",
    ];
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let lines: Vec<String> = without_tests(text).lines().map(code).collect();
    let chosen_by_lot = lines
        .windows(2)
        .any(|pair| pair[0].contains("tokio::select! {") && pair[1].trim() != "biased;");
    PAST.into_iter()
        .find(|name| lines.iter().any(|line| line.contains(name)))
        .or(chosen_by_lot.then_some("tokio::select! without biased"))
}

/// Consensus, state, feed and scheduler take time, tasks and random numbers from `runtime`, so that they run in a deterministic simulation.
#[test]
fn what_is_simulated_takes_time_and_tasks_from_runtime() {
    for folder in ["store", "raft", "ecs", "scheduler"] {
        for (path, text) in sources(folder) {
            let name = path.to_string_lossy();
            // The machine's clocks, and what is built into tests only.
            let is_exempt = ["/clock.rs", "tests.rs", "/tests/", "/testing/", "/storage_suite.rs"]
                .iter()
                .any(|part| name.contains(part));
            if let Some(past) = past_the_seam(&text).filter(|_| !is_exempt) {
                panic!("{name} names {past}: take it from blox_runtime, or say `biased`");
            }
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
    for code in [
        "tokio::time::sleep(moment).await;",
        "let now = std::time::Instant::now();",
        "tokio::select! {\n    () = one => {}\n}",
    ] {
        assert!(past_the_seam(code).is_some(), "{code}");
    }
    for code in [
        "blox_runtime::time::sleep(moment).await; // not tokio::time::sleep",
        "tokio::select! {\n    biased;\n    () = one => {}\n}",
        "fn a() {}\n#[cfg(test)]\nmod tests {\n    tokio::spawn(one);\n}",
    ] {
        assert!(past_the_seam(code).is_none(), "{code}");
    }
    assert!(names_crate("use aws_sdk_ecs::Client;", "aws_"));
    assert!(!names_crate("let aws_region = 1;", "aws_"));
}
