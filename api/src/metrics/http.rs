//! Counters of the HTTP interface itself.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};

use crate::metrics::MetricsPage;

/// Upper bounds of the duration buckets, seconds.
const DURATION_BUCKETS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What the HTTP interface counts. Its labels are bounded: route templates, known methods, status codes.
#[derive(Default)]
pub(crate) struct HttpMetrics {
    /// By route.
    durations: Mutex<BTreeMap<String, BTreeMap<Labels, Histogram>>>,
    tasks_left_out: AtomicU64,
    instances_left_out: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: [u64; DURATION_BUCKETS_SECONDS.len()],
    sum_seconds: f64,
    count: u64,
}

impl HttpMetrics {
    /// Counts one answer; of a stream, the time to its head.
    pub(crate) fn record(&self, method: &Method, route: &str, status: StatusCode, duration: Duration) {
        let labels = Labels {
            method: method_label(method),
            code: status.as_u16(),
        };
        let seconds = duration.as_secs_f64();
        let mut durations = self.durations.lock().expect("nothing panics under this lock");
        if !durations.contains_key(route) {
            durations.insert(route.to_owned(), BTreeMap::new());
        }
        let of_route = durations.get_mut(route).expect("inserted above");
        let histogram = of_route.entry(labels).or_default();
        if let Some(bucket) = DURATION_BUCKETS_SECONDS.iter().position(|bound| seconds <= *bound) {
            histogram.buckets[bucket] += 1;
        }
        histogram.sum_seconds += seconds;
        histogram.count += 1;
    }

    /// Where tasks that v1 cannot show are counted.
    pub(crate) fn tasks_left_out(&self) -> &AtomicU64 {
        &self.tasks_left_out
    }

    /// Where instances that v1 cannot show are counted.
    pub(crate) fn instances_left_out(&self) -> &AtomicU64 {
        &self.instances_left_out
    }

    /// Adds everything counted to a page.
    pub(crate) fn collect(&self, page: &mut MetricsPage) {
        let durations = self.durations.lock().expect("nothing panics under this lock").clone();
        let all = durations.iter().flat_map(|(route, of_route)| {
            of_route
                .iter()
                .map(move |(labels, histogram)| (route, labels, histogram))
        });
        for (route, labels, histogram) in all {
            let code = labels.code.to_string();
            let mut below = 0;
            let buckets: Vec<(f64, u64)> = DURATION_BUCKETS_SECONDS
                .iter()
                .zip(histogram.buckets)
                .map(|(bound, count)| {
                    below += count;
                    (*bound, below)
                })
                .collect();
            page.histogram(
                "blox_http_request_duration_seconds",
                "Time from a request's head to its answer's head.",
                &[("route", route), ("method", labels.method), ("code", &code)],
                &buckets,
                histogram.sum_seconds,
                histogram.count,
            );
        }
        for (kind, count) in [("task", &self.tasks_left_out), ("instance", &self.instances_left_out)] {
            page.counter(
                "blox_v1_left_out_total",
                "Records left out of v1 answers because they lack a field that v1 requires.",
                &[("kind", kind)],
                count.load(Ordering::Relaxed) as f64,
            );
        }
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_cumulative_and_labelled_by_route() {
        let metrics = HttpMetrics::default();
        metrics.record(&Method::GET, "/v2/kv/{*key}", StatusCode::OK, Duration::from_millis(2));
        metrics.record(&Method::GET, "/v2/kv/{*key}", StatusCode::OK, Duration::from_secs(60));
        let mut page = MetricsPage::default();
        metrics.collect(&mut page);
        let text = page.render();
        let labels = "route=\"/v2/kv/{*key}\",method=\"GET\",code=\"200\"";
        for line in [
            format!("blox_http_request_duration_seconds_bucket{{{labels},le=\"0.001\"}} 0"),
            format!("blox_http_request_duration_seconds_bucket{{{labels},le=\"0.0025\"}} 1"),
            format!("blox_http_request_duration_seconds_bucket{{{labels},le=\"10\"}} 1"),
            format!("blox_http_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 2"),
            format!("blox_http_request_duration_seconds_count{{{labels}}} 2"),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
