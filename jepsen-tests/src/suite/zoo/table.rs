//! The zoo's table, from its state alone. Pure.

use std::fmt::Write;

use serde_json::Value;

/// Characters of a sentence that are told.
const TOLD_MAX: usize = 160;

/// What caught which bug, as Markdown: a sentence, then a line a bug.
pub fn table(state: &Value) -> String {
    let entries: Vec<&Value> = state["exhibits"].as_array().into_iter().flatten().collect();
    let count = |is: &dyn Fn(&Value) -> bool| entries.iter().filter(|entry| is(entry)).count();
    let mut out = format!(
        "{} bugs, {} caught, {} of them by the first run. The same runs without a bug: {} valid, {} not.\n\n\
         | bug | caught by | workload | faults | seed | runs | seconds | what was said |\n|---|---|---|---|---|---|---|---|\n",
        entries.len(),
        count(&|entry| entry["caught"] == true),
        count(&|entry| entry["caught"] == true && entry["runs"] == 1),
        count(&|entry| entry["control"]["verdict"] == "valid"),
        count(&|entry| entry["control"]["verdict"].is_string() && entry["control"]["verdict"] != "valid"),
    );
    for entry in entries {
        let caught = entry["caught"] == true;
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {} (`{}`) | {} | {} | {} | {} | {} | {:.0} | {} |",
            text("title"),
            text("bug"),
            if caught { text("check") } else { "**not caught**" },
            words(&entry["workloads"]),
            words(&entry["nemeses"]),
            entry["seed"].as_u64().map_or("-".to_owned(), |seed| seed.to_string()),
            entry["runs"].as_u64().unwrap_or(0),
            entry["seconds"].as_f64().unwrap_or(0.0),
            told(if caught { text("sentence") } else { "" }),
        );
    }
    out
}

fn words(list: &Value) -> String {
    let all: Vec<&str> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

/// Short, and without what would end a cell.
fn told(sentence: &str) -> String {
    let mut told: String = sentence.chars().take(TOLD_MAX).collect();
    if told.len() < sentence.len() {
        told.push_str(" ...");
    }
    told.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each bug has its line; what was not caught is said, and nothing ends a cell too early.
    #[test]
    fn every_bug_has_its_line() {
        let caught = json!({"bug": "early-ack", "title": "acknowledged before fsync", "caught": true, "check": "set: nothing is lost", "seed": 2,
            "workloads": ["register", "set"], "nemeses": ["power-cut:all"], "runs": 1, "seconds": 81.4, "sentence": "a|b\nis lost",
            "control": {"verdict": "valid"}});
        let free = json!({"bug": "no-fence", "title": "no fence", "caught": false, "workloads": ["daemon"], "nemeses": [], "runs": 3,
            "seconds": 300.0, "control": {"verdict": "unknown"}});
        let text = table(&json!({"exhibits": [caught, free]}));
        for expected in [
            "2 bugs, 1 caught, 1 of them by the first run. The same runs without a bug: 1 valid, 1 not.",
            "| acknowledged before fsync (`early-ack`) | set: nothing is lost | register, set | power-cut:all | 2 | 1 | 81 | a\\|b is lost |",
            "| no fence (`no-fence`) | **not caught** | daemon | none | - | 3 | 300 |  |",
        ] {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
        assert!(told(&"x".repeat(500)).len() < 200);
    }
}
