//! A page of metrics: families in order, each with its samples.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What a family's numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows (its name ends in `_total`).
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Sum and count.
    Summary,
}

/// A page under construction; written in Prometheus' text format 0.0.4.
#[derive(Clone, Debug, Default)]
pub struct MetricsPage {
    families: BTreeMap<String, Family>,
}

#[derive(Clone, Debug)]
struct Family {
    kind: MetricKind,
    help: String,
    samples: Vec<String>,
}

impl MetricsPage {
    /// Adds a sample of a counter; `name` ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(MetricKind::Counter, name, name, help, labels, value);
    }

    /// Adds a sample of a gauge, in base units (seconds, bytes).
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(MetricKind::Gauge, name, name, help, labels, value);
    }

    /// Adds one histogram: cumulative `(upper bound, count)` pairs in order, without the infinite one.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        buckets: &[(f64, u64)],
        sum: f64,
        count: u64,
    ) {
        let bucket = format!("{name}_bucket");
        let infinite = (f64::INFINITY, count);
        for (bound, below) in buckets.iter().chain([&infinite]) {
            let bound = if bound.is_infinite() {
                "+Inf".to_owned()
            } else {
                bound.to_string()
            };
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(MetricKind::Histogram, name, &bucket, help, &labels, *below as f64);
        }
        self.sample(MetricKind::Histogram, name, &format!("{name}_sum"), help, labels, sum);
        self.sample(
            MetricKind::Histogram,
            name,
            &format!("{name}_count"),
            help,
            labels,
            count as f64,
        );
    }

    /// Adds one summary without quantiles: how much in all, over how many.
    pub fn summary(&mut self, name: &str, help: &str, labels: &[(&str, &str)], sum: f64, count: u64) {
        self.sample(MetricKind::Summary, name, &format!("{name}_sum"), help, labels, sum);
        self.sample(
            MetricKind::Summary,
            name,
            &format!("{name}_count"),
            help,
            labels,
            count as f64,
        );
    }

    /// Whether the page holds that family already.
    pub fn has(&self, name: &str) -> bool {
        self.families.contains_key(name)
    }

    /// The page as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let kind = match family.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
                MetricKind::Summary => "summary",
            };
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for sample in &family.samples {
                text.push_str(sample);
                text.push('\n');
            }
        }
        text
    }

    fn sample(&mut self, kind: MetricKind, family: &str, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut sample = name.to_owned();
        for (position, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(sample, "{}{label}=\"{text}\"", if position == 0 { '{' } else { ',' });
        }
        let _ = write!(sample, "{} {value}", if labels.is_empty() { "" } else { "}" });
        let new = || Family {
            kind,
            help: help.to_owned(),
            samples: Vec::new(),
        };
        self.families
            .entry(family.to_owned())
            .or_insert_with(new)
            .samples
            .push(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_prometheus_wants_it() {
        let mut page = MetricsPage::default();
        page.gauge("blox_b", "Second.", &[], 1.5);
        page.counter("blox_a_total", "First.", &[("source", "a\"b\\c\nd")], 3.0);
        page.histogram(
            "blox_c_seconds",
            "Third.",
            &[("route", "/x")],
            &[(0.1, 1), (1.0, 2)],
            2.5,
            3,
        );
        page.summary("blox_d_seconds", "Fourth.", &[], 0.5, 2);
        assert!(page.has("blox_d_seconds") && !page.has("blox_d_seconds_sum"));
        assert_eq!(
            page.render(),
            "# HELP blox_a_total First.\n# TYPE blox_a_total counter\nblox_a_total{source=\"a\\\"b\\\\c\\nd\"} 3\n\
             # HELP blox_b Second.\n# TYPE blox_b gauge\nblox_b 1.5\n\
             # HELP blox_c_seconds Third.\n# TYPE blox_c_seconds histogram\n\
             blox_c_seconds_bucket{route=\"/x\",le=\"0.1\"} 1\nblox_c_seconds_bucket{route=\"/x\",le=\"1\"} 2\n\
             blox_c_seconds_bucket{route=\"/x\",le=\"+Inf\"} 3\nblox_c_seconds_sum{route=\"/x\"} 2.5\n\
             blox_c_seconds_count{route=\"/x\"} 3\n\
             # HELP blox_d_seconds Fourth.\n# TYPE blox_d_seconds summary\nblox_d_seconds_sum 0.5\nblox_d_seconds_count 2\n"
        );
    }
}
