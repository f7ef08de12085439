//! The planner: a pure function from what is wanted and what is there to what is to be done.
//!
//! Sets first, actions after: every instance of an environment's cluster becomes a [`slot`], every slot falls into one of the buckets
//! place, replace, stop, keep, wait(why); a roll-out then takes as many outdated slots as `max_unavailable` leaves room for. Planning the
//! result of its own plan yields nothing to do, because each intent it asks for stands in the state before the next plan is made.

pub mod backoff;
mod held;
pub mod input;
mod leaving;
mod open_launch;
pub mod plan;
mod render;
pub mod slot;
mod stopping;
mod wanted;

use std::collections::BTreeSet;

pub use input::PlannerInput;
pub use plan::{EnvironmentPlan, Plan};

use crate::names::EnvironmentId;

/// What to do now, for every environment.
pub fn plan(input: &PlannerInput) -> Plan {
    Plan {
        environments: input
            .environments
            .keys()
            .filter_map(|id| plan_environment(input, id))
            .collect(),
    }
}

/// What to do now, for some environments.
pub fn plan_some(input: &PlannerInput, ids: &BTreeSet<EnvironmentId>) -> Plan {
    Plan {
        environments: ids.iter().filter_map(|id| plan_environment(input, id)).collect(),
    }
}

/// What to do now for one environment; `None` where nothing of it is known.
pub fn plan_environment(input: &PlannerInput, id: &EnvironmentId) -> Option<EnvironmentPlan> {
    let environment = input.environments.get(id)?;
    let mut plan = EnvironmentPlan::new(id, environment.wanted.as_ref().map_or("", |wanted| &wanted.name));
    if let Some(wanted) = environment
        .wanted
        .as_ref()
        .filter(|wanted| input.is_held(&wanted.cluster))
    {
        held::plan_held(input, id, environment, wanted, &mut plan);
        return Some(plan);
    }
    stopping::end_finished(input, environment, &mut plan);
    match &environment.wanted {
        None => leaving::plan_gone(input, id, environment, &mut plan),
        Some(wanted) if wanted.deleting => leaving::plan_deleting(input, id, environment, wanted, &mut plan),
        Some(wanted) => match environment.current_deployment() {
            Some((deployment_id, deployment)) => {
                wanted::Planner::new(input, id, environment, wanted, deployment_id, deployment).fill(&mut plan);
            }
            None => leaving::plan_undeployed(input, id, environment, &mut plan),
        },
    }
    Some(plan)
}
