//! The world of the demo.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{ClusterKey, Definition, DefinitionError, InstanceOrder, Name, World};
use crate::settings::Liveliness;

const DEMO_REGION: &str = "us-east-1";
const DEMO_CLUSTERS: [&str; 2] = ["alpha", "beta"];
const DEMO_INSTANCES: usize = 20;
const DEMO_TASKS: usize = 24;

impl World {
    /// Two clusters of twenty instances, `web:1`, `agent:1` and `agent:2`, application tasks, a gentle life.
    pub(crate) fn build_demo(&mut self) {
        let region: Name = DEMO_REGION.into();
        self.open_region(&region);
        for definition in [
            definition("web", 128, 128),
            definition("agent", 64, 64),
            definition("agent", 64, 64),
        ] {
            self.register_definition(&region, &definition)
                .expect("the demo's own definitions are well formed");
        }
        for name in DEMO_CLUSTERS {
            let cluster = ClusterKey {
                region: Name::clone(&region),
                name: name.into(),
            };
            self.create_cluster(&cluster);
            let order = InstanceOrder {
                cluster: name.into(),
                count: DEMO_INSTANCES,
                ..InstanceOrder::default()
            };
            self.add_instances(&cluster, &order);
            for _ in 0..DEMO_TASKS {
                self.start_application_task(&cluster);
            }
        }
        self.set_liveliness(Liveliness::gentle());
    }

    /// The next revision of a family, from a RegisterTaskDefinition request.
    pub(crate) fn register_definition(
        &mut self,
        region: &Name,
        request: &Value,
    ) -> Result<Arc<Definition>, DefinitionError> {
        let now_ms = self.now_ms();
        let prefix = format!("arn:aws:ecs:{region}:{}:task-definition/", self.account);
        let family = request["family"].as_str().unwrap_or_default();
        let held = self.open_region(region).definitions.get(family).map_or(0, Vec::len);
        let definition = Arc::new(Definition::register(request, &prefix, held as u32 + 1, now_ms)?);
        let revisions = self
            .open_region(region)
            .definitions
            .entry(definition.family.clone())
            .or_default();
        revisions.push(Arc::clone(&definition));
        Ok(definition)
    }
}

/// A RegisterTaskDefinition request for one container.
fn definition(family: &str, cpu: u32, memory_mib: u32) -> Value {
    json!({
        "family": family,
        "networkMode": "bridge",
        "containerDefinitions": [{
            "name": family,
            "image": format!("public.ecr.aws/example/{family}:latest"),
            "cpu": cpu,
            "memory": memory_mib,
            "essential": true,
        }],
    })
}
