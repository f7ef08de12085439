//! A plan as text for people: what `tests/plans/` holds.

use std::fmt;

use crate::names::short;
use crate::planner::plan::{DeploymentStep, EnvironmentPlan, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.environments
            .iter()
            .try_for_each(|environment| environment.fmt(formatter))
    }
}

impl fmt::Display for EnvironmentPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "(gone)" } else { &self.name };
        write!(formatter, "environment {name}")?;
        if let Some(target) = &self.target {
            write!(
                formatter,
                ": {} of deployment {}",
                short(target.task_definition.as_str()),
                target.deployment
            )?;
        }
        writeln!(formatter)?;
        self.slots(formatter)?;
        self.records(formatter)?;
        if self.is_idle() {
            writeln!(formatter, "  nothing to do")?;
        }
        if let Some(wake_at) = self.wake_at_elapsed_ms {
            writeln!(formatter, "  look again at {wake_at} ms")?;
        }
        Ok(())
    }
}

impl EnvironmentPlan {
    fn slots(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for placement in &self.place {
            write!(formatter, "  place    {}", short(placement.instance.as_str()))?;
            match placement.failures {
                0 => writeln!(formatter)?,
                failures => writeln!(formatter, " (failures in a row: {failures})")?,
            }
        }
        for replacement in &self.replace {
            let (instance, task) = (short(replacement.instance.as_str()), short(replacement.task.as_str()));
            let old = short(replacement.task_definition.as_str());
            let available = if replacement.available {
                ""
            } else {
                ", which does not serve"
            };
            writeln!(formatter, "  replace  {instance}: stop {task} ({old}){available}")?;
        }
        for stop in &self.stop {
            let (instance, task) = (short(stop.instance.as_str()), short(stop.task.as_str()));
            writeln!(
                formatter,
                "  stop     {instance}: {task}, {}",
                stop.reason.text().trim_start_matches("blox: ")
            )?;
        }
        for kept in &self.keep {
            let state = if kept.running { "running" } else { "starting" };
            writeln!(
                formatter,
                "  keep     {}: {} {state}",
                short(kept.instance.as_str()),
                short(kept.task.as_str())
            )?;
        }
        for waiting in &self.wait {
            writeln!(
                formatter,
                "  wait     {}: {}",
                short(waiting.instance.as_str()),
                waiting.reason
            )?;
        }
        Ok(())
    }

    fn records(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for binding in &self.bind {
            let (instance, task) = (short(binding.instance.as_str()), short(binding.task.as_str()));
            writeln!(formatter, "  bind     {instance}: launch {} to {task}", binding.launch)?;
        }
        for look_up in &self.look_up {
            writeln!(
                formatter,
                "  look up  {}: launch {}",
                short(look_up.instance.as_str()),
                look_up.launch
            )?;
        }
        for (instance, launch) in &self.forget_launches {
            writeln!(formatter, "  forget   {}: launch {launch}", short(instance.as_str()))?;
        }
        for task in &self.end_stops {
            writeln!(formatter, "  end      the stop of {}", short(task.as_str()))?;
        }
        match self.deployment {
            Some(DeploymentStep::Begin) => writeln!(formatter, "  the deployment begins")?,
            Some(DeploymentStep::Complete) => writeln!(formatter, "  the deployment is completed")?,
            None => {}
        }
        if self.remove {
            writeln!(formatter, "  remove the environment")?;
        }
        Ok(())
    }
}
