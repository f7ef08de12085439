//! What the node adds to `/metrics` beside what the routes gather themselves.

use std::sync::Arc;

use blox_api::{MetricsPage, MetricsSource};

use super::process;
use super::sources::Sources;
use crate::logging::DroppedLines;

/// Families that the routes take from the replicated state: equal on every node, so this process's own counts of them are left out.
const REPLICATED: [&str; 5] = [
    "blox_events_total",
    "blox_event_version_gaps_total",
    "blox_event_lag_seconds",
    "blox_reconcile_last_success_timestamp_seconds",
    "blox_reconcile_drift_total",
];

/// Sources, scheduler, process and log of this node.
pub struct NodeMetrics {
    sources: Arc<Sources>,
    scheduler: Arc<blox_scheduler::Metrics>,
    dropped: DroppedLines,
}

impl NodeMetrics {
    /// Gathers from these.
    pub fn new(sources: Arc<Sources>, dropped: DroppedLines) -> NodeMetrics {
        NodeMetrics {
            sources,
            scheduler: Arc::default(),
            dropped,
        }
    }

    /// Where the scheduler counts.
    pub fn scheduler(&self) -> Arc<blox_scheduler::Metrics> {
        Arc::clone(&self.scheduler)
    }
}

impl MetricsSource for NodeMetrics {
    fn collect(&self, page: &mut MetricsPage) {
        for sample in self.sources.metrics().read() {
            if REPLICATED.contains(&sample.name) {
                continue;
            }
            let labels: Vec<(&str, &str)> = sample
                .labels
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            add(
                page,
                sample.name,
                "From the ECS boundary of this node.",
                &labels,
                sample.value,
            );
        }
        for (name, value) in self.scheduler.values() {
            add(page, name, "From the scheduler of this node.", &[], value);
        }
        for (result, value) in self.scheduler.launches() {
            let labels = [("result", result)];
            page.counter(
                "blox_daemon_launches_total",
                "Launches by this node, by result; found: a look-up found the task of an unknown one.",
                &labels,
                value,
            );
        }
        for (name, value) in process::readings() {
            add(page, name, "From the operating system.", &[], value);
        }
        let dropped = self.dropped.count() as f64;
        page.counter(
            "blox_log_lines_dropped_total",
            "Log lines dropped because nobody read them in time.",
            &[],
            dropped,
        );
    }
}

fn add(page: &mut MetricsPage, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
    if name.ends_with("_total") {
        page.counter(name, help, labels, value);
    } else {
        page.gauge(name, help, labels, value);
    }
}
