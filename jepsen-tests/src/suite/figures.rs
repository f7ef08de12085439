//! Counts of a run, for the report.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::files::Files;
use crate::check::availability;
use crate::clock::ms;

/// All that follow from its history and faults alone.
pub(super) fn figures(files: &Files<'_>) -> Map<String, Value> {
    let mut by_function: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for operation in &files.history.operations {
        let workload = operation.key.split('/').next().unwrap_or_default();
        let counts = by_function
            .entry(format!("{workload} {}", operation.function))
            .or_default();
        counts[operation.outcome as usize] += 1;
    }
    let counts = |[ok, failed, unknown]: &[u64; 3]| json!({"ok": ok, "failed": failed, "unknown": unknown});
    let by_function: Map<String, Value> = by_function
        .iter()
        .map(|(name, all)| (name.clone(), counts(all)))
        .collect();
    let gaps = files.gaps();
    let spread = |spread: availability::Spread| json!({"count": spread.count, "p50_ms": ms(spread.p50_ns), "p90_ms": ms(spread.p90_ns), "p99_ms": ms(spread.p99_ns), "max_ms": ms(spread.max_ns)});
    let pauses = availability::by_fault(&gaps).into_iter();
    let pauses: Map<String, Value> = pauses.map(|(name, all)| (name.to_string(), spread(all))).collect();
    let mut figures = Map::new();
    figures.insert("operations".to_owned(), json!(files.history.operations.len()));
    figures.insert("by_function".to_owned(), Value::Object(by_function));
    figures.insert("pauses".to_owned(), Value::Object(pauses));
    let gap = |gap: &availability::Gap| {
        let target = gap.fault.target.split(' ').next().unwrap_or_default();
        json!({"fault": &*gap.fault.name, "target": target, "pause_ms": ms(gap.pause_ns), "next_ms": gap.next_ns.map(ms)})
    };
    figures.insert("gaps".to_owned(), gaps.iter().map(gap).collect());
    figures.insert("live_writes_ms".to_owned(), files.end["live_writes_ms"].clone());
    figures
}
