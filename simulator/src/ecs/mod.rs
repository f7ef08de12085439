//! The ECS API: AWS JSON 1.1, one function an operation.

mod clusters;
mod definitions;
mod instances;
mod launch;
mod request;
mod tasks;

use serde_json::Value;

pub(crate) use definitions::find as find_definition;

use crate::throttle::Category;
use crate::wire::{AwsError, Call};
use crate::world::World;

type Answer = Result<Value, AwsError>;

/// One operation: its name on the wire, the bucket it draws from, what it does.
struct Operation {
    name: &'static str,
    category: Category,
    run: fn(&mut World, &Call) -> Answer,
}

const fn operation(name: &'static str, category: Category, run: fn(&mut World, &Call) -> Answer) -> Operation {
    Operation { name, category, run }
}

const OPERATIONS: [Operation; 20] = [
    operation("ListClusters", Category::ClusterRead, clusters::list),
    operation("DescribeClusters", Category::ClusterRead, clusters::describe),
    operation("CreateCluster", Category::ClusterModify, clusters::create),
    operation("DeleteCluster", Category::ClusterModify, clusters::delete),
    operation("ListContainerInstances", Category::ClusterResourceRead, instances::list),
    operation(
        "DescribeContainerInstances",
        Category::ClusterResourceRead,
        instances::describe,
    ),
    operation(
        "UpdateContainerInstancesState",
        Category::ClusterResourceModify,
        instances::update_state,
    ),
    operation(
        "DeregisterContainerInstance",
        Category::ClusterResourceModify,
        instances::deregister,
    ),
    operation(
        "PutAttributes",
        Category::ClusterResourceModify,
        instances::put_attributes,
    ),
    operation("ListTasks", Category::ClusterResourceRead, tasks::list),
    operation("DescribeTasks", Category::ClusterResourceRead, tasks::describe),
    operation("StopTask", Category::ClusterResourceModify, tasks::stop),
    operation("StartTask", Category::ClusterResourceModify, launch::start),
    operation("RunTask", Category::ClusterResourceModify, launch::run),
    operation(
        "RegisterTaskDefinition",
        Category::TaskDefinitionModify,
        definitions::register,
    ),
    operation(
        "DeregisterTaskDefinition",
        Category::TaskDefinitionModify,
        definitions::deregister,
    ),
    operation(
        "DescribeTaskDefinition",
        Category::TaskDefinitionRead,
        definitions::describe,
    ),
    operation("ListTaskDefinitions", Category::TaskDefinitionRead, definitions::list),
    operation(
        "ListTaskDefinitionFamilies",
        Category::TaskDefinitionRead,
        definitions::families,
    ),
    operation("ListServices", Category::ClusterRead, clusters::list_services),
];

/// Throttles and performs one call.
pub(crate) fn call(world: &mut World, call: &Call) -> Answer {
    let operation = OPERATIONS
        .iter()
        .find(|operation| operation.name == call.operation)
        .ok_or_else(|| AwsError::unknown_operation(call.operation))?;
    let now_ms = world.now_ms();
    if let Some(region) = world.regions.get_mut(&call.region)
        && !region
            .buckets
            .admit(&world.settings.faults.throttling, operation.category, now_ms)
    {
        return Err(AwsError::throttled());
    }
    (operation.run)(world, call)
}
