//! Environments whose cluster was not compared with ECS since the state came out of a backup: what the state says of it may be days old, so
//! that a task to place may run already, and the younger of two may be the only one that lives. Nothing is started, stopped or looked up
//! before a whole pass of reconcile has found the state to hold what ECS does and nothing else.

use crate::names::EnvironmentId;
use crate::planner::input::{Environment, PlannerInput, Wanted};
use crate::planner::plan::{EnvironmentPlan, WaitReason};
use crate::planner::slot::slots;

/// Every instance waits.
pub(super) fn plan_held(
    input: &PlannerInput,
    id: &EnvironmentId,
    environment: &Environment,
    wanted: &Wanted,
    plan: &mut EnvironmentPlan,
) {
    for slot in slots(input, id, environment, wanted) {
        plan.wait_for(slot.arn, WaitReason::NotReconciledSinceRestore);
    }
}
