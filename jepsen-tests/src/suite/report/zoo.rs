//! What the tests made of deliberate bugs, from `zoo.json`: `{"exhibits":[{"bug","title","caught","check","workloads","nemeses","seed","runs","seconds",
//! "control":{"verdict"}}]}`.

use std::fmt::Write;

use serde_json::Value;

use super::text::{table, words};

/// A bug a row.
pub(super) fn zoo(out: &mut String, zoo: Option<&Value>) {
    out.push_str("\n## The tests can fail\n\n");
    let Some(exhibits) = zoo.and_then(|zoo| zoo["exhibits"].as_array()) else {
        out.push_str("Deliberate bugs were not tried for this report.\n");
        return;
    };
    let count = |is: &dyn Fn(&Value) -> bool| exhibits.iter().filter(|exhibit| is(exhibit)).count();
    let _ = write!(
        out,
        "Each bug was put into the nodes on purpose, and runs were done until the check of the promise that it breaks refused one: {} of {} were caught, {} by \
         the first run. The same runs without the bug: {} valid, {} not.\n\n",
        count(&is_caught),
        exhibits.len(),
        count(&|exhibit| is_caught(exhibit) && exhibit["runs"] == 1),
        count(&|exhibit| exhibit["control"]["verdict"] == "valid"),
        count(&|exhibit| exhibit["control"]["verdict"].is_string() && exhibit["control"]["verdict"] != "valid"),
    );
    let row = |exhibit: &Value| {
        let word = |name: &str| exhibit[name].as_str().unwrap_or_default();
        let caught_by = if is_caught(exhibit) {
            word("check")
        } else {
            "**not caught**"
        };
        [
            format!("{} (`{}`)", word("title"), word("bug")),
            words(&exhibit["workloads"]),
            words(&exhibit["nemeses"]),
            exhibit["seed"].as_u64().map_or("-".to_owned(), |seed| seed.to_string()),
            exhibit["runs"].as_u64().unwrap_or(0).to_string(),
            format!("{:.0}", exhibit["seconds"].as_f64().unwrap_or(0.0)),
            caught_by.to_owned(),
        ]
    };
    let rows: Vec<[String; 7]> = exhibits.iter().map(row).collect();
    table(
        out,
        &["bug", "workload", "nemesis", "seed", "runs", "seconds", "caught by"],
        &rows,
    );
}

fn is_caught(exhibit: &Value) -> bool {
    exhibit["caught"] == true
}
