//! The scheduler's promises, against a fleet and a leadership that misbehave at random. A failing case prints its steps; proptest keeps the
//! shortest.

use blox_scheduler::planner::plan;
use blox_scheduler::planner::plan::Plan;
use blox_scheduler::planner::slot::{Fitness, slots};
use blox_scheduler::planner::{PlannerInput, plan::DeploymentStep};
use blox_store::proto::DrainPolicy;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fleet::Fate;
use crate::world::{World, definition, instance};

const INSTANCES: usize = 5;
/// Peace has come when nothing happens for longer than the longest back-off, 15 minutes.
const CALM_ROUNDS: u32 = 20;
const CALM_ROUND_MS: u64 = 60_000;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Plan,
    Advance(u64),
    Tell(usize),
    Fate(Fate),
    ChangeLeader,
    LoseProposal {
        applied: bool,
    },
    Instance {
        number: usize,
        status: &'static str,
        agent_connected: bool,
        disk: &'static str,
    },
    Die(usize),
    Other(usize),
    NewDefinition(u32),
    WantDisk(&'static str),
    Drain(DrainPolicy),
    Lag(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::AnswerLost),
        Just(Fate::CallLost),
        // Within the promise: no call reaches ECS more than 60 s after its deadline, which is 20 s after its intent.
        (0_u64..20_000).prop_map(Fate::Late),
        Just(Fate::Failing("RESOURCE:MEMORY")),
        Just(Fate::Failing("AGENT")),
        Just(Fate::Refused),
        Just(Fate::CallerDiesAfter),
        Just(Fate::CallerDiesBefore),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![4 => Just("ACTIVE"), 1 => Just("DRAINING"), 1 => Just("INACTIVE")];
    let instance = (
        0..INSTANCES,
        status,
        prop::bool::weighted(0.8),
        prop_oneof![3 => Just("ssd"), 1 => Just("hdd")],
    );
    prop_oneof![
        10 => Just(Step::Plan),
        5 => prop_oneof![Just(10), Just(1_000), Just(7_000), Just(30_000), Just(70_000)].prop_map(Step::Advance),
        6 => prop_oneof![Just(1_usize), Just(3), Just(100)].prop_map(Step::Tell),
        5 => fate().prop_map(Step::Fate),
        2 => Just(Step::ChangeLeader),
        1 => any::<bool>().prop_map(|applied| Step::LoseProposal { applied }),
        3 => instance.prop_map(|(number, status, agent_connected, disk)| Step::Instance { number, status, agent_connected, disk }),
        2 => (0_usize..8).prop_map(Step::Die),
        1 => (0..INSTANCES).prop_map(Step::Other),
        1 => (1_u32..4).prop_map(Step::NewDefinition),
        1 => prop_oneof![Just(""), Just("ssd")].prop_map(Step::WantDisk),
        1 => prop_oneof![Just(DrainPolicy::Last), Just(DrainPolicy::First), Just(DrainPolicy::Never)].prop_map(Step::Drain),
        1 => prop_oneof![Just(0_u64), Just(30_000)].prop_map(Step::Lag),
    ]
}

fn take(world: &mut World, step: &Step) {
    use std::sync::atomic::Ordering::SeqCst;
    match *step {
        Step::Plan => {
            world.step_checked(check_plan);
        }
        Step::Advance(ms) => world.advance(ms),
        Step::Tell(events) => world.tell(events),
        Step::Fate(fate) => world.fleet.with(|fleet| fleet.fates.push_back(fate)),
        Step::ChangeLeader => world.change_leader(),
        Step::LoseProposal { applied: true } => world.state.lose_applied.store(true, SeqCst),
        Step::LoseProposal { applied: false } => world.state.lose_unapplied.store(true, SeqCst),
        Step::Instance {
            number,
            status,
            agent_connected,
            disk,
        } => {
            world
                .fleet
                .with(|fleet| fleet.put_instance(&instance(number), status, agent_connected, disk));
        }
        Step::Die(number) => world.fleet.with(|fleet| {
            let arn = fleet
                .tasks
                .values()
                .filter(|task| task.is_live())
                .nth(number)
                .map(|task| task.arn.clone());
            arn.iter().for_each(|arn| fleet.kill(arn));
        }),
        Step::Other(number) => {
            world.fleet.with(|fleet| fleet.put_other(&instance(number)));
        }
        Step::NewDefinition(revision) => world.update(|spec| spec.task_definition_arn = definition(revision)),
        Step::WantDisk(disk) => world.update(|spec| {
            let attribute = blox_store::proto::Attribute {
                name: "disk".to_owned(),
                value: disk.to_owned(),
            };
            spec.attributes = if disk.is_empty() { Vec::new() } else { vec![attribute] };
        }),
        Step::Drain(policy) => world.update(|spec| spec.drain_policy = policy.into()),
        Step::Lag(ms) => world.fleet.with(|fleet| fleet.listing_lag_ms = ms),
    }
}

/// What must hold of every plan, whatever it was made of.
fn check_plan(input: &PlannerInput, plan: &Plan) {
    for part in &plan.environments {
        let environment = &input.environments[&part.environment];
        let Some(wanted) = &environment.wanted else { continue };
        let slots = slots(input, &part.environment, environment, wanted);
        let fitness = |arn| {
            slots
                .iter()
                .find(|slot| slot.arn == arn)
                .map(|slot| slot.fitness.clone())
        };
        for placement in &part.place {
            assert_eq!(
                fitness(&placement.instance),
                Some(Fitness::Eligible),
                "placed on an ineligible instance:\n{part}"
            );
        }
        for replacement in &part.replace {
            assert_eq!(
                fitness(&replacement.instance),
                Some(Fitness::Eligible),
                "replaced on an ineligible instance:\n{part}"
            );
        }
        let unavailable = slots.iter().filter(|slot| slot.counts_as_unavailable()).count();
        let taken_down = part.replace.iter().filter(|replacement| replacement.available).count();
        let limit = (wanted.max_unavailable.max(1) as usize).max(unavailable);
        assert!(
            taken_down == 0 || unavailable + taken_down <= limit,
            "{unavailable} + {taken_down} unavailable, at most {limit}:\n{part}"
        );
    }
}

/// Calm: everything is told, nothing fails, until nothing happens any more.
fn settle(world: &World, reconnect: bool) {
    world.fleet.with(|fleet| {
        fleet.fates.clear();
        fleet.listing_lag_ms = 0;
        let away: Vec<_> = fleet
            .instances
            .iter()
            .filter(|(_, instance)| !instance.agent_connected)
            .map(|(arn, i)| (arn.clone(), i.clone()))
            .collect();
        for (arn, instance) in away.into_iter().filter(|_| reconnect) {
            fleet.put_instance(&arn, instance.status, true, instance.disk);
        }
    });
    use std::sync::atomic::Ordering::SeqCst;
    world.state.lose_applied.store(false, SeqCst);
    world.state.lose_unapplied.store(false, SeqCst);
    world.reconciled();
    let mut calm = 0;
    for _ in 0..400 {
        world.tell(usize::MAX);
        let is_idle = world.step_checked(check_plan).is_idle();
        let is_told = world
            .fleet
            .with(|fleet| fleet.events.is_empty() && !fleet.has_late_calls());
        calm = if is_idle && is_told { calm + 1 } else { 0 };
        if calm > CALM_ROUNDS {
            return;
        }
        world.advance(if calm > 3 { CALM_ROUND_MS } else { 5_000 });
    }
    panic!("it never comes to rest:\n{}", plan(&world.input()));
}

/// Exactly one daemon of the wanted definition on each eligible instance, and none where none belongs.
fn check_converged(world: &World) {
    let wants_ssd = !world.spec.attributes.is_empty();
    let wanted = world.spec.task_definition_arn.clone();
    world.fleet.with(|fleet| {
        for (arn, instance) in &fleet.instances {
            let live = fleet.live_on(arn, &World::group());
            let is_matching = !wants_ssd || instance.disk == "ssd";
            let others = fleet
                .tasks
                .values()
                .filter(|task| task.is_live() && task.instance == *arn && task.group != World::group())
                .count();
            match instance.status {
                "ACTIVE" if is_matching => {
                    assert_eq!(live.len(), 1, "{arn} must run exactly one: {live:?}");
                    assert_eq!(
                        (live[0].status, &live[0].definition),
                        ("RUNNING", &wanted),
                        "{arn} runs something else"
                    );
                }
                "ACTIVE" => assert_eq!(live.len(), 0, "{arn} does not match: {live:?}"),
                "DRAINING" if !is_matching => assert_eq!(live.len(), 0, "{arn} does not match: {live:?}"),
                "DRAINING" => match world.spec.drain_policy() {
                    DrainPolicy::First => assert_eq!(live.len(), 0, "{arn} drains first: {live:?}"),
                    DrainPolicy::Last if others == 0 => assert_eq!(live.len(), 0, "{arn} drains last: {live:?}"),
                    // A daemon that was asked to stop under an earlier policy is gone all the same.
                    DrainPolicy::Last | DrainPolicy::Never => assert!(live.len() <= 1, "{arn} has doubles: {live:?}"),
                },
                // ECS ends what runs there.
                _ => assert!(live.len() <= 1, "{arn} has doubles: {live:?}"),
            }
        }
    });
}

/// Proves that a call that works ten seconds late, behind a listing that lags thirty, is found before its launch is given up.
#[test]
fn a_late_call_behind_a_lagging_listing_is_found() {
    let mut world = World::new(1);
    world
        .fleet
        .with(|fleet| (0..INSTANCES).for_each(|number| fleet.put_instance(&instance(number), "ACTIVE", true, "ssd")));
    world.tell(usize::MAX);
    let steps = [
        Step::Fate(Fate::Late(10_001)),
        Step::Plan,
        Step::Lag(30_000),
        Step::Advance(10_000),
        Step::Plan,
        Step::Advance(70_000),
        Step::Plan,
        Step::Plan,
    ];
    for step in &steps {
        take(&mut world, step);
    }
    settle(&world, true);
    check_converged(&world);
    let doubles = world.fleet.with(|fleet| fleet.doubles.clone());
    assert!(doubles.is_empty(), "doubles: {doubles:?}");
}

proptest! {
    // More cases: PROPTEST_CASES=5000.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves: never two tasks of an environment on one instance, whatever answers, calls and leaders are lost; never a launch on an
    /// ineligible instance; no plan takes more down than `max_unavailable` allows; and once calm returns, exactly one on each eligible
    /// instance, and peace.
    #[test]
    fn hold_whatever_happens(max_unavailable in 1_u32..3, steps in vec(step(), 1..60)) {
        let mut world = World::new(max_unavailable);
        world.fleet.with(|fleet| (0..INSTANCES).for_each(|number| fleet.put_instance(&instance(number), "ACTIVE", true, "ssd")));
        world.tell(usize::MAX);
        for step in &steps {
            take(&mut world, step);
        }
        settle(&world, true);
        check_converged(&world);
        let doubles = world.fleet.with(|fleet| fleet.doubles.clone());
        prop_assert!(doubles.is_empty(), "doubles: {doubles:?}");
        prop_assert_eq!(world.metrics.doubles_stopped.get(), 0);
    }

    /// Proves that a plan, carried out, leaves nothing to plan: what it asked for stands in the state. (Records alone may take another step:
    /// a stop that is over ends, a deployment that began completes.)
    #[test]
    fn planning_again_does_nothing(steps in vec(step(), 1..60)) {
        let mut world = World::new(1);
        world.fleet.with(|fleet| (0..INSTANCES).for_each(|number| fleet.put_instance(&instance(number), "ACTIVE", true, "ssd")));
        for step in &steps {
            take(&mut world, step);
        }
        world.fleet.with(|fleet| fleet.fates.clear());
        world.state.lose_applied.store(false, std::sync::atomic::Ordering::SeqCst);
        world.state.lose_unapplied.store(false, std::sync::atomic::Ordering::SeqCst);
        // What an answer or a look-up tells is news; what a plan does of its own is not.
        world.tell(usize::MAX);
        let mut first = world.step();
        while first.environments.iter().any(|part| part.bind.len() + part.look_up.len() > 0) {
            world.tell(usize::MAX);
            first = world.step();
        }
        let again = plan(&world.input());
        for part in &again.environments {
            let acts = part.place.len() + part.replace.len() + part.stop.len() + part.look_up.len() + part.bind.len();
            prop_assert!(acts == 0, "first:\n{first}\nagain:\n{again}");
            prop_assert!(part.deployment != Some(DeploymentStep::Begin), "again:\n{again}");
        }
    }

    /// Proves that a roll-out over a fleet that runs never leaves more than `max_unavailable` instances without a running daemon, at any
    /// moment, agents' flaps included, and that it ends.
    #[test]
    fn a_roll_out_keeps_its_room(max_unavailable in 1_u32..4, flaps in vec((0..INSTANCES, 0_usize..3), 0..40)) {
        let mut world = World::new(max_unavailable);
        world.fleet.with(|fleet| (0..INSTANCES).for_each(|number| fleet.put_instance(&instance(number), "ACTIVE", true, "ssd")));
        settle(&world, true);
        world.update(|spec| spec.task_definition_arn = definition(2));
        for (number, rounds) in flaps {
            world.fleet.with(|fleet| {
                let connected = fleet.instances[&instance(number)].agent_connected;
                fleet.put_instance(&instance(number), "ACTIVE", !connected, "ssd");
            });
            for _ in 0..=rounds {
                world.tell(usize::MAX);
                world.step();
                check_room(&world, max_unavailable as usize);
                world.advance(1_500);
                check_room(&world, max_unavailable as usize);
            }
        }
        settle(&world, true);
        check_converged(&world);
    }
}

/// As the fleet itself sees it.
fn check_room(world: &World, max_unavailable: usize) {
    let unavailable: Vec<String> = world.fleet.with(|fleet| {
        let runs = |arn: &str| {
            fleet
                .live_on(arn, &World::group())
                .iter()
                .any(|task| task.status == "RUNNING" && !task.stop_desired)
        };
        fleet.instances.keys().filter(|arn| !runs(arn)).cloned().collect()
    });
    assert!(
        unavailable.len() <= max_unavailable,
        "without a running daemon: {unavailable:?}\n{}",
        plan(&world.input())
    );
}
