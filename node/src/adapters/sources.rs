//! The configured sources of this node, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use blox_ecs::budget::Budgets;
use blox_ecs::{EcsMetrics, Source, SourceConfig};
use blox_raft::Clock;

/// The configured sources; every node has them (routes ask ECS for names), the leader alone observes by them.
pub struct Sources {
    by_name: BTreeMap<String, Arc<Source>>,
    metrics: EcsMetrics,
}

impl Sources {
    /// Builds the clients; asks AWS nothing yet.
    pub async fn connect(configs: &[SourceConfig], clock: Arc<dyn Clock>) -> Sources {
        let (metrics, budgets) = (EcsMetrics::new(), Budgets::new());
        let mut by_name = BTreeMap::new();
        for config in configs {
            let source = Source::connect(config.clone(), &budgets, Arc::clone(&clock), metrics.clone()).await;
            by_name.insert(config.name.clone(), Arc::new(source));
        }
        Sources { by_name, metrics }
    }

    /// The source of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Source>> {
        self.by_name.get(name)
    }

    /// All sources, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.by_name.values()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// What all of them count.
    pub fn metrics(&self) -> &EcsMetrics {
        &self.metrics
    }
}
