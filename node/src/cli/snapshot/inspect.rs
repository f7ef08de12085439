//! `blox snapshot inspect`: checks every byte, opens the state, says what it holds.

use std::path::{Path, PathBuf};

use anyhow::Context;
use blox_store::backup::{self, Inspection};
use serde_json::{Map, Value, json};

use super::Output;
use super::progress::Progress;

/// Inspects a file.
pub fn run(file: &Path, output: Output, scratch: Option<PathBuf>) -> anyhow::Result<()> {
    let scratch = scratch.unwrap_or_else(std::env::temp_dir);
    let directory = tempfile::Builder::new()
        .prefix("blox-inspect-")
        .tempdir_in(&scratch)
        .with_context(|| {
            format!(
                "cannot unpack in {}: choose another place with --scratch",
                scratch.display()
            )
        })?;
    let total = std::fs::metadata(file).ok().map(|metadata| metadata.len());
    let mut progress = Progress::new("checked", total);
    let inspection = backup::inspect(file, &directory.path().join("state"), |bytes| progress.at(bytes))?;
    progress.done();
    match output {
        Output::Json => println!("{}", model(&inspection)),
        Output::Text => print!("{}", text(&inspection)),
    }
    Ok(())
}

fn model(inspection: &Inspection) -> Value {
    let summary = &inspection.summary;
    let counts: Map<String, Value> = inspection
        .counts
        .iter()
        .map(|(kind, count)| (kind.name().to_owned(), json!(count)))
        .collect();
    json!({
        "cluster_id": summary.cluster_id,
        "node": summary.node,
        "version": summary.version,
        "created_at_ms": summary.created_at_ms,
        "revision": summary.revision,
        "applied_index": summary.applied_index,
        "feature_level": summary.feature_level.number(),
        "state_hash": format!("{:032x}", summary.state_hash),
        "counts": counts,
        "bytes": summary.bytes,
        "hash": format!("{:032x}", summary.hash),
    })
}

fn text(inspection: &Inspection) -> String {
    let Value::Object(model) = model(inspection) else {
        unreachable!("the model is an object")
    };
    let mut text = String::new();
    for (name, value) in &model {
        let value = match value {
            Value::String(value) => value.clone(),
            Value::Object(counts) => {
                let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
                counts.join(", ")
            }
            other => other.to_string(),
        };
        text.push_str(&format!("{:<14} {value}\n", name.replace('_', " ")));
    }
    text
}
