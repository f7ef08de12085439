//! What must have come about some time after everything was mended: one leader, one state on all nodes, a fleet as it is wanted, and peace.

use std::collections::BTreeSet;

use blox_scheduler::mirror::Mirror;
use blox_scheduler::planner::{EnvironmentPlan, plan};
use blox_store::proto::LaunchState;
use blox_store::{Kind, ResourceFilter, View};

use crate::cluster::{Cluster, NAMES, Running};
use crate::duties::limits;
use crate::fleet::Truth;
use crate::operator;
use crate::oracles::{converged, nothing_lost};

/// What is not as it must be in the end; the cheap questions first.
pub fn wrong(cluster: &Cluster) -> Vec<String> {
    let running = cluster.running();
    if running.len() != NAMES.len() {
        return vec!["not every node runs".to_owned()];
    }
    if !are_together(&running) {
        return vec!["the nodes have no common state".to_owned()];
    }
    let view = view(&running[0]);
    let daemons = cluster.fleet.daemons();
    let mut wrong = converged::judge(&operator::wanted(&view, &cluster.fleet), &daemons);
    if wrong.is_empty() {
        wrong.extend(running.iter().flat_map(|node| lost_on(cluster, node)));
    }
    if wrong.is_empty() {
        wrong.extend(left_to_do(&running, &view));
    }
    wrong
}

/// Whether one leads, and all hold the same state up to all that is in any log.
fn are_together(running: &[Running]) -> bool {
    let beliefs: Vec<_> = running.iter().map(|node| node.consensus.belief()).collect();
    let one_leads = beliefs.iter().filter(|belief| belief.leads).count() == 1;
    let same_term = beliefs.iter().all(|belief| belief.term == beliefs[0].term);
    let states: Vec<_> = running
        .iter()
        .filter_map(|node| node.store.fingerprint().ok())
        .collect();
    let same_state = states.iter().all(|state| *state == states[0]);
    let all_applied = states
        .iter()
        .zip(&beliefs)
        .all(|(state, belief)| state.applied_index == belief.last);
    one_leads && same_term && same_state && all_applied && states.len() == NAMES.len()
}

fn view(node: &Running) -> View {
    node.store.view().expect("memory does not fail")
}

/// What a node's records do not say as ECS does.
fn lost_on(cluster: &Cluster, node: &Running) -> Vec<String> {
    let view = view(node);
    let mut found = Truth::new();
    for kind in [Kind::Instance, Kind::Task] {
        let records = view
            .list(kind, ResourceFilter::default())
            .expect("memory does not fail");
        for record in records {
            let resource = record.expect("memory does not fail").resource;
            let fields = resource.fields.unwrap_or_default();
            found.insert(resource.arn, (fields.ecs_version.unwrap_or_default(), fields.status));
        }
    }
    let mut lost = nothing_lost::judge(node.name, &cluster.fleet.truth(), &found);
    let quarantined = node.store.quarantine(0, usize::MAX).expect("memory does not fail");
    let quarantined: BTreeSet<String> = quarantined.into_iter().map(|message| message.message_id).collect();
    let nonsense = cluster.fleet.queue.nonsense();
    lost.extend(nothing_lost::judge_quarantine(node.name, &nonsense, &quarantined));
    lost
}

/// What the planner would still do, and what of its doing is not over.
fn left_to_do(running: &[Running], view: &View) -> Vec<String> {
    let Some(leader) = running.iter().find(|node| node.consensus.belief().leads) else {
        return vec!["nobody leads".to_owned()];
    };
    let mut mirror = Mirror::of(view, limits()).expect("memory does not fail");
    mirror.note_sources(&leader.store.sources().expect("memory does not fail"));
    mirror.input_mut().now_elapsed_ms = leader.consensus.elapsed_ms();
    let plan = plan(mirror.input());
    let mut left = Vec::new();
    if !plan.environments.iter().all(is_idle) {
        left.push(format!("converged: planning again asks for\n{plan}"));
    }
    let launches = view.all_launches().expect("memory does not fail");
    let is_open = |state| matches!(state, LaunchState::Intended | LaunchState::Unknown);
    let open = launches.iter().filter(|launch| is_open(launch.state()));
    left.extend(open.map(|launch| format!("converged: launch {} is open", launch.id)));
    let stops = view.all_stops().expect("memory does not fail");
    left.extend(
        stops
            .iter()
            .map(|stop| format!("converged: the stop of {} is not over", stop.task_arn)),
    );
    left
}

fn is_idle(plan: &EnvironmentPlan) -> bool {
    let acts = plan.place.len() + plan.replace.len() + plan.stop.len() + plan.look_up.len() + plan.bind.len();
    let records = plan.end_stops.len() + plan.forget_launches.len();
    acts + records == 0 && plan.deployment.is_none() && !plan.remove
}
