//! An environment with a deployment: exactly one task of it on every eligible instance.

use crate::names::{DeploymentId, EnvironmentId, GROUP_PREFIX, InstanceArn};
use crate::planner::backoff::next_attempt;
use crate::planner::input::{Deployment, DeploymentProgress, Drain, Environment, PlannerInput, Task, Wanted};
use crate::planner::open_launch;
use crate::planner::plan::{
    DeploymentStep, EnvironmentPlan, Kept, Placement, Replacement, StopReason, Target, WaitReason,
};
use crate::planner::slot::{Fitness, Slot, StopTurn, slots};
use crate::planner::stopping;

/// Plans one environment.
pub(super) struct Planner<'a> {
    input: &'a PlannerInput,
    environment: &'a Environment,
    wanted: &'a Wanted,
    deployment_id: &'a DeploymentId,
    deployment: &'a Deployment,
    slots: Vec<Slot<'a>>,
}

/// An outdated task, and how often its stop was asked.
struct Outdated<'a> {
    slot: &'a Slot<'a>,
    task: &'a Task,
    attempts: u32,
}

/// What is to become of the one task of a slot.
enum Verdict {
    Keep,
    Replace,
    Stop(StopReason),
    Wait(WaitReason),
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        input: &'a PlannerInput,
        id: &EnvironmentId,
        environment: &'a Environment,
        wanted: &'a Wanted,
        deployment_id: &'a DeploymentId,
        deployment: &'a Deployment,
    ) -> Planner<'a> {
        let slots = slots(input, id, environment, wanted);
        Planner {
            input,
            environment,
            wanted,
            deployment_id,
            deployment,
            slots,
        }
    }

    pub(super) fn fill(&self, plan: &mut EnvironmentPlan) {
        plan.target = Some(Target {
            cluster: self.wanted.cluster.clone(),
            deployment: self.deployment_id.clone(),
            task_definition: self.deployment.task_definition.clone(),
        });
        let mut outdated = Vec::new();
        for slot in &self.slots {
            self.fill_slot(slot, plan, &mut outdated);
        }
        self.roll_out(plan, outdated);
        self.forget_launches(plan);
        self.step_deployment(plan);
    }

    fn fill_slot<'s>(&'s self, slot: &'s Slot<'a>, plan: &mut EnvironmentPlan, outdated: &mut Vec<Outdated<'s>>) {
        if slot.in_flight {
            plan.wait_for(slot.arn, WaitReason::InFlight);
            return;
        }
        for double in slot.doubles() {
            self.ask_stop(plan, double, StopReason::Double);
        }
        if let Some(launch) = slot.open_launch() {
            open_launch::resolve(self.input, self.environment, plan, slot.arn, launch);
            return;
        }
        let Some(task) = slot.kept() else {
            self.fill_empty(slot, plan);
            return;
        };
        let turn = StopTurn::of(self.input, self.environment, task);
        match (self.verdict(slot, task), turn) {
            (_, turn @ StopTurn::InProgress { .. }) => stopping::wait(plan, task, turn),
            (Verdict::Stop(reason), _) => self.ask_stop(plan, task, reason),
            (Verdict::Replace, StopTurn::Due { attempts }) => outdated.push(Outdated { slot, task, attempts }),
            (Verdict::Replace, turn) => stopping::wait(plan, task, turn),
            (Verdict::Wait(reason), _) => plan.wait_for(slot.arn, reason),
            (Verdict::Keep, _) => {
                if self.environment.stops.contains_key(&task.arn) {
                    // It was to be stopped, ECS never took the stop, and now it is wanted again.
                    plan.end_stops.push(task.arn.clone());
                }
                plan.keep.push(Kept {
                    instance: slot.arn.clone(),
                    task: task.arn.clone(),
                    running: task.is_running(),
                });
            }
        }
    }

    fn verdict(&self, slot: &Slot<'_>, task: &Task) -> Verdict {
        match &slot.fitness {
            Fitness::Eligible if task.task_definition == self.deployment.task_definition => Verdict::Keep,
            Fitness::Eligible => Verdict::Replace,
            Fitness::Disconnected => Verdict::Wait(WaitReason::AgentDisconnected),
            Fitness::NotMatching => Verdict::Stop(StopReason::NotMatching),
            Fitness::Other(status) => Verdict::Wait(WaitReason::InstanceStatus(status.clone())),
            Fitness::Gone => Verdict::Wait(WaitReason::InstanceGone),
            Fitness::Draining => match (self.wanted.drain, self.other_tasks_on(slot.arn)) {
                (Drain::Never, _) => Verdict::Keep,
                (Drain::First, _) | (Drain::Last, 0) => Verdict::Stop(StopReason::Draining),
                (Drain::Last, count) => Verdict::Wait(WaitReason::OtherTasks { count }),
            },
        }
    }

    /// Tasks on an instance that are not STOPPED and no daemons of ours: by their own status, for ECS's counters leave out those that stop.
    fn other_tasks_on(&self, instance: &InstanceArn) -> usize {
        let tasks = self
            .input
            .cluster(&self.wanted.cluster)
            .into_iter()
            .flat_map(|cluster| cluster.tasks_on(instance));
        tasks
            .filter(|task| !task.is_stopped() && !task.group.starts_with(GROUP_PREFIX))
            .count()
    }

    fn fill_empty(&self, slot: &Slot<'_>, plan: &mut EnvironmentPlan) {
        match slot.fitness {
            Fitness::Eligible => {}
            Fitness::Disconnected => return plan.wait_for(slot.arn, WaitReason::AgentDisconnected),
            _ => return,
        }
        let died = slot
            .launch
            .and_then(|launch| self.input.task(&launch.cluster, launch.task()?));
        let next = next_attempt(slot.launch, died, self.deployment_id, self.input.limits.healthy_run_ms);
        if self.input.now_elapsed_ms < next.not_before_elapsed_ms {
            plan.wait_for(
                slot.arn,
                WaitReason::BackingOff {
                    failures: next.failures,
                    reason: next.reason,
                    until_elapsed_ms: next.not_before_elapsed_ms,
                },
            );
        } else {
            plan.place.push(Placement {
                instance: slot.arn.clone(),
                failures: next.failures,
                not_sent: next.not_sent,
            });
        }
    }

    /// Replaces outdated tasks. Those that do not serve at once: that costs nothing. The others while fewer than `max_unavailable`
    /// instances are without a running daemon, whatever the reason.
    fn roll_out(&self, plan: &mut EnvironmentPlan, outdated: Vec<Outdated<'_>>) {
        let unavailable = self.slots.iter().filter(|slot| slot.counts_as_unavailable()).count();
        let limit = self.wanted.max_unavailable.max(1);
        let mut room = (limit as usize).saturating_sub(unavailable);
        for Outdated { slot, task, attempts } in outdated {
            let available = slot.is_available();
            if available && room == 0 {
                plan.wait_for(slot.arn, WaitReason::MaxUnavailable { limit });
                continue;
            }
            room -= usize::from(available);
            plan.replace.push(Replacement {
                instance: slot.arn.clone(),
                task: task.arn.clone(),
                task_definition: task.task_definition.clone(),
                available,
                attempts,
            });
        }
    }

    /// Launches of instances that are gone, once nothing of them lives.
    fn forget_launches(&self, plan: &mut EnvironmentPlan) {
        let cluster = self.input.cluster(&self.wanted.cluster);
        for (arn, launch) in self.environment.launches.iter().filter(|(_, launch)| !launch.is_open()) {
            let instance = cluster.and_then(|cluster| cluster.instance(arn));
            let gone = Fitness::of(instance, self.wanted) == Fitness::Gone;
            let lives = launch
                .task()
                .and_then(|task| self.input.task(&launch.cluster, task))
                .is_some_and(|task| !task.is_stopped());
            if gone && !lives {
                plan.forget_launches.push((arn.clone(), launch.id.clone()));
            }
        }
    }

    /// Completed once every eligible instance runs the deployment's task. Where there is none, that holds at once, but only after the
    /// cluster was compared with ECS: before, no instances mean nothing.
    fn step_deployment(&self, plan: &mut EnvironmentPlan) {
        let mut eligible = self
            .slots
            .iter()
            .filter(|slot| slot.fitness == Fitness::Eligible)
            .peekable();
        let known = eligible.peek().is_some() || self.input.reconciled.contains(&self.wanted.cluster);
        plan.deployment = match self.deployment.status {
            DeploymentProgress::Pending => Some(DeploymentStep::Begin),
            DeploymentProgress::Running
                if known && eligible.all(|slot| slot.runs(&self.deployment.task_definition)) =>
            {
                Some(DeploymentStep::Complete)
            }
            _ => None,
        };
    }

    fn ask_stop(&self, plan: &mut EnvironmentPlan, task: &Task, reason: StopReason) {
        stopping::ask(self.input, self.environment, plan, &self.wanted.cluster, task, reason);
    }
}
