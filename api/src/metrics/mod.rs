//! `/metrics`, in Prometheus' text format.

mod collect;
mod consensus;
mod http;
mod page;

pub use page::{MetricKind, MetricsPage};

pub(crate) use collect::show;
pub(crate) use http::HttpMetrics;

/// What a part of the node has to say on `/metrics`.
pub trait MetricsSource: Send + Sync + 'static {
    /// Adds its samples. Called at each scrape, off the request threads; may read a little, must not wait.
    fn collect(&self, page: &mut MetricsPage);
}
