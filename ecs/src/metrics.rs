//! Counters and gauges of the ECS boundary, read by the metrics page.
//!
//! | name | labels | meaning |
//! |---|---|---|
//! | `blox_sqs_received_total`, `_deleted_total`, `_delete_failures_total`, `_quarantined_total`, `_abandoned_total`, `_extended_total` | source | messages |
//! | `blox_sqs_errors_total` | source, op, code | failed calls to the queue |
//! | `blox_sqs_in_flight_messages` | source | received, not yet applied |
//! | `blox_events_total` | source, type, outcome | events: applied, duplicate, stale, unknown, filtered, poison |
//! | `blox_event_version_gaps_total` | source | ECS versions jumped over between events |
//! | `blox_event_lag_seconds` | source | age of the newest applied event when it was applied |
//! | `blox_ecs_api_requests_total` | source, op, code | calls to ECS |
//! | `blox_ecs_api_throttled_total` | source, op | calls ECS throttled |
//! | `blox_ecs_budget_tokens` | source, category | calls that may leave now |
//! | `blox_reconcile_passes_total`, `_failures_total` | source | finished and failed passes over one cluster |
//! | `blox_reconcile_duration_seconds`, `_last_success_timestamp_seconds` | source | of the last pass over the whole source |
//! | `blox_reconcile_drift_total` | source, kind | added, changed, gone |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::request::EcsRequest;

/// What the feed counts of messages.
const QUEUE_COUNTERS: [&str; 6] = [
    "blox_sqs_received_total",
    "blox_sqs_deleted_total",
    "blox_sqs_delete_failures_total",
    "blox_sqs_quarantined_total",
    "blox_sqs_abandoned_total",
    "blox_sqs_extended_total",
];
/// What the feed asks of a queue.
const QUEUE_OPERATIONS: [&str; 4] = [
    "GetQueueUrl",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
];

/// One reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name.
    pub name: &'static str,
    /// Its labels, in order.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: f64,
}

/// A counter or gauge: the bits of an `f64`.
type Cell = Arc<AtomicU64>;

type Labels = Vec<(&'static str, String)>;

type Series = BTreeMap<(&'static str, Labels), Cell>;

/// All counters and gauges of this crate. Cheap to clone; all clones are the same. The number of series is bounded by the sources,
/// operations and codes there are: no label ever holds an ARN.
#[derive(Clone, Debug, Default)]
pub struct EcsMetrics {
    series: Arc<Mutex<Series>>,
}

impl EcsMetrics {
    /// Without any series yet.
    pub fn new() -> EcsMetrics {
        EcsMetrics::default()
    }

    /// Everything counted so far, by name and labels.
    pub fn read(&self) -> Vec<Sample> {
        let series = self.series.lock();
        series
            .iter()
            .map(|((name, labels), cell)| Sample {
                name,
                labels: labels.clone(),
                value: f64::from_bits(cell.load(Ordering::Relaxed)),
            })
            .collect()
    }

    /// One series' value; 0 where it does not exist.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matches = |sample: &Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.iter().any(|(k, v)| k == key && v == value))
        };
        self.read()
            .iter()
            .filter(|sample| matches(sample))
            .map(|sample| sample.value)
            .sum()
    }

    /// Makes the counters of a source stand there with 0: one that only appears with its first count never seems to rise, and no alert on its
    /// rise is raised the first time.
    pub(crate) fn begin_source(&self, source: &str, has_queue: bool) {
        let source = ("source", source);
        for name in ["blox_reconcile_passes_total", "blox_reconcile_failures_total"] {
            self.cell(name, &[source]);
        }
        for operation in EcsRequest::OPERATIONS {
            self.cell("blox_ecs_api_throttled_total", &[source, ("op", operation)]);
        }
        if !has_queue {
            return;
        }
        for name in QUEUE_COUNTERS {
            self.cell(name, &[source]);
        }
        self.cell("blox_sqs_in_flight_messages", &[source]);
        for operation in QUEUE_OPERATIONS {
            self.cell(
                "blox_sqs_errors_total",
                &[source, ("op", operation), ("code", "unknown")],
            );
        }
    }

    /// Adds to a counter.
    pub(crate) fn add(&self, name: &'static str, labels: &[(&'static str, &str)], amount: u64) {
        if amount == 0 {
            return;
        }
        let cell = self.cell(name, labels);
        // Floats in an atomic: exact up to 2^53, and one representation serves counters and gauges.
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let next = (f64::from_bits(seen) + amount as f64).to_bits();
            match cell.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(actual) => seen = actual,
            }
        }
    }

    /// Sets a gauge.
    pub(crate) fn set(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.cell(name, labels).store(value.to_bits(), Ordering::Relaxed);
    }

    fn cell(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Cell {
        let labels: Labels = labels.iter().map(|(key, value)| (*key, value.to_string())).collect();
        self.series
            .lock()
            .entry((name, labels))
            .or_insert_with(|| Arc::new(AtomicU64::new(0f64.to_bits())))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters add up per set of labels, gauges hold the last value, and both can be read by name and labels.
    #[test]
    fn series_are_kept_apart_by_labels() {
        let metrics = EcsMetrics::new();
        metrics.add("blox_events_total", &[("source", "a"), ("outcome", "applied")], 2);
        metrics.add("blox_events_total", &[("source", "a"), ("outcome", "applied")], 3);
        metrics.add("blox_events_total", &[("source", "a"), ("outcome", "stale")], 1);
        metrics.set("blox_event_lag_seconds", &[("source", "a")], 0.25);
        assert_eq!(metrics.value("blox_events_total", &[("outcome", "applied")]), 5.0);
        assert_eq!(metrics.value("blox_events_total", &[("source", "a")]), 6.0);
        assert_eq!(metrics.value("blox_event_lag_seconds", &[]), 0.25);
        assert_eq!(metrics.read().len(), 3);
    }

    /// What has not happened yet stands there as 0, and nothing of a queue where there is none.
    #[test]
    fn a_source_begins_with_zeros() {
        let metrics = EcsMetrics::new();
        metrics.begin_source("alone", false);
        let names = |metrics: &EcsMetrics| metrics.read().iter().map(|sample| sample.name).collect::<Vec<_>>();
        assert!(names(&metrics).contains(&"blox_ecs_api_throttled_total"));
        assert!(!names(&metrics).iter().any(|name| name.starts_with("blox_sqs_")));
        metrics.begin_source("fed", true);
        assert!(names(&metrics).contains(&"blox_sqs_quarantined_total"));
        metrics.add("blox_sqs_quarantined_total", &[("source", "fed")], 2);
        metrics.begin_source("fed", true);
        assert_eq!(
            metrics.value("blox_sqs_quarantined_total", &[]),
            2.0,
            "nothing starts over"
        );
        assert!(
            metrics
                .read()
                .iter()
                .all(|sample| sample.value == 0.0 || sample.value == 2.0)
        );
    }
}
