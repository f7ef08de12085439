//! ECS API throttling: one token bucket per region and category of operations.
//!
//! Rates are Amazon's defaults ("Request throttling for the Amazon ECS API").

use std::collections::BTreeMap;

use crate::settings::{Rate, Throttling};

/// Operations that share a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Category {
    /// StartTask, RunTask, StopTask, state changes and attributes of instances.
    ClusterResourceModify,
    /// Descriptions and listings of tasks and instances.
    ClusterResourceRead,
    ClusterModify,
    ClusterRead,
    TaskDefinitionModify,
    TaskDefinitionRead,
}

impl Category {
    /// The name under which `/control/faults` overrides its rate.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClusterResourceModify => "cluster_resource_modify",
            Self::ClusterResourceRead => "cluster_resource_read",
            Self::ClusterModify => "cluster_modify",
            Self::ClusterRead => "cluster_read",
            Self::TaskDefinitionModify => "task_definition_modify",
            Self::TaskDefinitionRead => "task_definition_read",
        }
    }

    fn rate(self) -> Rate {
        let (burst, per_second) = match self {
            Self::ClusterResourceModify => (100.0, 40.0),
            Self::ClusterResourceRead => (100.0, 20.0),
            Self::ClusterModify => (20.0, 1.0),
            Self::ClusterRead | Self::TaskDefinitionRead => (50.0, 20.0),
            Self::TaskDefinitionModify => (20.0, 1.0),
        };
        Rate { burst, per_second }
    }
}

/// The buckets of one region.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    buckets: BTreeMap<Category, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at_ms: u64,
}

impl Buckets {
    /// Takes one token; false when there is none.
    pub(crate) fn admit(&mut self, throttling: &Throttling, category: Category, now_ms: u64) -> bool {
        if !throttling.enabled {
            return true;
        }
        let rate = throttling
            .rates
            .get(category.name())
            .copied()
            .unwrap_or(category.rate());
        let bucket = self.buckets.entry(category).or_insert(Bucket {
            tokens: rate.burst,
            filled_at_ms: now_ms,
        });
        let elapsed_seconds = now_ms.saturating_sub(bucket.filled_at_ms) as f64 / 1_000.0;
        bucket.tokens = (bucket.tokens + elapsed_seconds * rate.per_second).min(rate.burst);
        bucket.filled_at_ms = now_ms;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bucket gives its burst, then its rate, and never more than its burst after a rest.
    #[test]
    fn burst_then_rate() {
        let throttling = Throttling {
            enabled: true,
            ..Throttling::default()
        };
        let mut buckets = Buckets::default();
        let mut admitted_at = |now_ms: u64| {
            (0..1_000)
                .filter(|_| buckets.admit(&throttling, Category::ClusterResourceRead, now_ms))
                .count()
        };
        assert_eq!(admitted_at(0), 100);
        assert_eq!(admitted_at(1_000), 20);
        assert_eq!(admitted_at(3_600_000), 100);
    }
}
