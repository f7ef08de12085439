//! Before a call that starts or stops a task there is a committed intent. A StartTask leaves under the newest session there is, or within the age
//! that a leader check may have of the next one's beginning, and whenever it arrives its launch is still open, so that no other is made beside
//! it; one call a launch. Source: design.md, invariant 7 and "Launch protocol"; decision 0003.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blox_ecs::StartTasks;
use blox_raft::simulation::Applied;
use blox_runtime::time::elapsed;
use blox_store::proto::command::Operation;
use blox_store::proto::outcome::Result as Did;
use blox_store::proto::{Entry, LaunchRecord, LaunchState};
use blox_store::{LogEntry, Store};
use prost::Message;

use super::{Fact, Mirrors, Oracle};
use crate::duties::LEADER_CHECK_AGE_MS_MAX;
use crate::fleet::short;

/// See the module.
pub struct IntentFirst {
    /// What is committed, as the first node that applied it had it.
    committed: Store,
    position: u64,
    /// When each session was opened, by its number.
    sessions: BTreeMap<u64, Duration>,
    /// Tasks that somebody intended to stop.
    stops: BTreeSet<String>,
    /// Launches whose call has arrived.
    called: BTreeSet<String>,
}

impl Default for IntentFirst {
    fn default() -> IntentFirst {
        IntentFirst {
            committed: Store::in_memory(),
            position: 0,
            sessions: BTreeMap::new(),
            stops: BTreeSet::new(),
            called: BTreeSet::new(),
        }
    }
}

impl IntentFirst {
    fn apply(&mut self, applied: &Applied) -> Result<(), String> {
        self.position = applied.position;
        let entry = LogEntry {
            index: applied.position,
            log_id: applied.position.to_be_bytes().to_vec().into(),
            membership: None,
            payload: applied.payload.clone(),
        };
        self.committed.apply(&[entry]).map_err(|error| error.to_string())?;
        let Some(payload) = applied.payload.clone() else {
            return Ok(());
        };
        let entry = Entry::decode(payload).map_err(|error| error.to_string())?;
        for (command, outcome) in entry.commands.into_iter().zip(&applied.outcomes) {
            match (command.operation, &outcome.result) {
                (Some(Operation::OpenSession(_)), Some(Did::SessionOpened(opened))) => {
                    self.sessions.insert(opened.session, elapsed());
                }
                (Some(Operation::IntendStops(_)), Some(Did::Launched(launched))) => {
                    self.stops.extend(launched.taken.iter().cloned());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The launches a call is made for: each open, of the call's deployment and task definition.
    fn launches(&self, start: &StartTasks) -> Result<Vec<LaunchRecord>, String> {
        let environment = start.group.strip_prefix("blox:").unwrap_or_default();
        let view = self.committed.view().map_err(|error| error.to_string())?;
        let launches = view.launches(environment).map_err(|error| error.to_string())?;
        let launch_on = |instance: &String| {
            let launch = launches.iter().find(|launch| launch.instance_arn == *instance);
            let launch = launch.ok_or_else(|| format!("no launch is intended on {}", short(instance)))?;
            let is_open = matches!(launch.state(), LaunchState::Intended | LaunchState::Unknown);
            let is_its_own = launch.deployment_id == start.started_by
                && launch.task_definition_arn == start.task_definition
                && !self.called.contains(&launch.id);
            match is_open && is_its_own {
                true => Ok(launch.clone()),
                false => Err(format!(
                    "the launch on {} is another, or closed: {launch:?}",
                    short(instance)
                )),
            }
        };
        start.instances.iter().map(launch_on).collect()
    }

    fn leaves(&self, start: &StartTasks) -> Result<(), String> {
        for launch in self.launches(start)? {
            let next = self.sessions.range(launch.session + 1..).next();
            let Some((session, opened)) = next else { continue };
            let since = elapsed().saturating_sub(*opened);
            if since > Duration::from_millis(LEADER_CHECK_AGE_MS_MAX) {
                return Err(format!(
                    "launch {} of session {} leaves {since:?} after session {session} was opened",
                    launch.id, launch.session
                ));
            }
        }
        Ok(())
    }
}

impl Oracle for IntentFirst {
    fn name(&self) -> &'static str {
        "intent first"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        match fact {
            Fact::Applied(applied) if applied.position > self.position => self.apply(applied),
            Fact::StartLeaves { node, start } => self
                .leaves(start)
                .map_err(|wrong| format!("a StartTask leaves {node}: {wrong}")),
            Fact::StartArrives(start) => {
                let launches = self.launches(start);
                let launches = launches.map_err(|wrong| format!("a StartTask arrives: {wrong}"))?;
                self.called.extend(launches.into_iter().map(|launch| launch.id));
                Ok(())
            }
            Fact::StopArrives { task } if !self.stops.contains(*task) => {
                Err(format!("a StopTask of {} arrives without an intent", short(task)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use blox_runtime::simulated::Simulation;
    use blox_runtime::time::{Instant, sleep};
    use blox_store::proto::{
        Command, CreateEnvironment, EnvironmentSpec, Form, IntendLaunches, IntendStops, LaunchIntent, LaunchOutcome,
        LaunchRejection, Launched, Observation, Observe, OpenSession, Outcome, RecordLaunches, ResourceKind,
        SessionOpened, launch_outcome,
    };

    use super::*;
    use crate::fleet::resources::Instance;
    use crate::fleet::{CLUSTER, SOURCE};

    const INSTANCE: &str = "arn:aws:ecs:us-east-1:123456789012:container-instance/edge/i001";

    struct World {
        oracle: IntentFirst,
        position: u64,
    }

    impl World {
        /// One environment, one instance, one session.
        fn new() -> World {
            let mut world = World {
                oracle: IntentFirst::default(),
                position: 0,
            };
            let spec = EnvironmentSpec {
                source: SOURCE.to_owned(),
                cluster_arn: CLUSTER.to_owned(),
                task_definition_arn: "logs:1".to_owned(),
                ..EnvironmentSpec::default()
            };
            let create = CreateEnvironment {
                id: "e".to_owned(),
                name: "logs".to_owned(),
                spec: Some(spec),
                deployment_token: "t".to_owned(),
                deployment_id: "d".to_owned(),
            };
            let instance = Observation {
                kind: ResourceKind::Instance.into(),
                form: Form::Describe.into(),
                source: SOURCE.to_owned(),
                cluster_arn: CLUSTER.to_owned(),
                arn: INSTANCE.to_owned(),
                ecs_version: Some(1),
                document: Instance::new("ssd").describe(INSTANCE).into(),
                ..Observation::default()
            };
            let observe = Observe {
                observations: vec![instance],
                ..Observe::default()
            };
            world.apply(0, Operation::CreateEnvironment(create), None);
            world.apply(0, Operation::Observe(observe), None);
            world.open_session(1);
            world
        }

        fn apply(&mut self, session: u64, operation: Operation, did: Option<Did>) {
            self.position += 1;
            let command = Command {
                session,
                operation: Some(operation),
                ..Command::default()
            };
            let entry = Entry {
                commands: vec![command],
                ..Entry::default()
            };
            let outcome = Outcome {
                result: did,
                ..Outcome::default()
            };
            let applied = Applied {
                node: "a".to_owned(),
                position: self.position,
                term: 1,
                payload: Some(entry.encode_to_vec().into()),
                outcomes: vec![outcome],
                state_hash: None,
            };
            self.note(&Fact::Applied(&applied)).expect("applying breaks nothing");
        }

        fn open_session(&mut self, session: u64) {
            let open = OpenSession {
                node: "a".to_owned(),
                term: session,
            };
            let did = Did::SessionOpened(SessionOpened { session, elapsed_ms: 0 });
            self.apply(0, Operation::OpenSession(open), Some(did));
        }

        fn intend(&mut self, launch: &str) {
            let intent = LaunchIntent {
                launch_id: launch.to_owned(),
                environment_id: "e".to_owned(),
                deployment_id: "d".to_owned(),
                source: SOURCE.to_owned(),
                cluster_arn: CLUSTER.to_owned(),
                instance_arn: INSTANCE.to_owned(),
                task_definition_arn: "logs:1".to_owned(),
                ..LaunchIntent::default()
            };
            let intend = IntendLaunches { intents: vec![intent] };
            self.apply(1, Operation::IntendLaunches(intend), None);
        }

        /// The launch is closed: ECS refused it.
        fn close(&mut self, launch: &str) {
            let rejected = launch_outcome::Outcome::Rejected(LaunchRejection::default());
            let outcome = LaunchOutcome {
                environment_id: "e".to_owned(),
                instance_arn: INSTANCE.to_owned(),
                launch_id: launch.to_owned(),
                outcome: Some(rejected),
            };
            let record = RecordLaunches {
                outcomes: vec![outcome],
                observations: Vec::new(),
            };
            self.apply(1, Operation::RecordLaunches(record), None);
        }

        fn note(&mut self, fact: &Fact<'_>) -> Result<(), String> {
            self.oracle.note(fact, &Mirrors::new())
        }

        fn leaves(&mut self) -> Result<(), String> {
            let start = start();
            self.note(&Fact::StartLeaves {
                node: "a",
                start: &start,
            })
        }

        fn arrives(&mut self) -> Result<(), String> {
            let start = start();
            self.note(&Fact::StartArrives(&start))
        }
    }

    fn start() -> StartTasks {
        StartTasks {
            cluster: CLUSTER.to_owned(),
            task_definition: "logs:1".to_owned(),
            instances: vec![INSTANCE.to_owned()],
            started_by: "d".to_owned(),
            group: "blox:e".to_owned(),
            send_by: Instant::now(),
        }
    }

    /// A start without an intent, a second one of one launch, one of a closed launch, and one that leaves long after the next session began are
    /// noticed; so is a stop without an intent.
    #[test]
    fn it_can_fail() {
        Simulation::new(1).run(async {
            let mut world = World::new();
            world.leaves().expect_err("no intent");
            world.arrives().expect_err("no intent");
            world.intend("1-1");
            world.leaves().expect("the intent is committed");
            world.arrives().expect("the intent is committed");
            world.arrives().expect_err("a second time");
            world.close("1-1");
            world.intend("1-2");
            world.open_session(2);
            world.leaves().expect("leadership was confirmed a moment ago");
            sleep(Duration::from_millis(LEADER_CHECK_AGE_MS_MAX + 1)).await;
            world.leaves().expect_err("it cannot have been confirmed since");
            world.arrives().expect("late, but its launch is open");

            let mut world = World::new();
            world.intend("1-1");
            world.close("1-1");
            world.arrives().expect_err("its launch is closed");
            let stop = Fact::StopArrives { task: "arn:t" };
            world.note(&stop).expect_err("no intent");
            let launched = Launched {
                taken: vec!["arn:t".to_owned()],
            };
            let intend = Operation::IntendStops(IntendStops::default());
            world.apply(1, intend, Some(Did::Launched(launched)));
            world.note(&stop).expect("intended");
        });
    }
}
