//! What the tests made of deliberate bugs: a list of `{"bug","workload","nemesis","seed","runs","seconds","check"}`, or such a list under `bugs`. A bug
//! that was not caught has `check` null.

use std::fmt::Write;

use serde_json::Value;

use super::text::table;

/// A bug a row; what is not known of it is a dash.
pub(super) fn zoo(out: &mut String, zoo: Option<&Value>) {
    out.push_str("\n## The tests can fail\n\n");
    let bugs = zoo.and_then(|zoo| zoo.as_array().or_else(|| zoo["bugs"].as_array()));
    let Some(bugs) = bugs else {
        out.push_str("Deliberate bugs were not tried for this report.\n");
        return;
    };
    let row = |bug: &Value| {
        ["bug", "workload", "nemesis", "seed", "runs", "seconds", "check"].map(|name| match &bug[name] {
            Value::Null if name == "check" => "**not caught**".to_owned(),
            Value::Null => "-".to_owned(),
            Value::String(word) => word.clone(),
            Value::Number(number) if number.is_f64() => format!("{:.0}", number.as_f64().unwrap_or(0.0)),
            other => other.to_string(),
        })
    };
    let rows: Vec<[String; 7]> = bugs.iter().map(row).collect();
    let caught = bugs.iter().filter(|bug| !bug["check"].is_null()).count();
    let _ = write!(
        out,
        "Each bug was put into a node on purpose, and runs were done until a check refused one: {caught} of {} were caught.\n\n",
        bugs.len()
    );
    table(
        out,
        &["bug", "workload", "nemesis", "seed", "runs", "seconds", "caught by"],
        &rows,
    );
}
