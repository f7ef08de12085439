//! A replicated state as a map: higher versions win, nothing else.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blox_raft::{Clock, ProposeError};
use blox_store::StoreError;
use blox_store::proto::{
    Command, Done, Observation, Observed, Outcome, QuarantinedMessage, Refusal, RefusalCode, Removed, ReportSource,
    ResourceKind, command::Operation, outcome,
};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::{TestClock, cluster_arn};
use crate::state::{Effect, KnownResource, ReplicatedState};

/// One resource of the fake state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) observation: Observation,
    pub(crate) mod_revision: u64,
}

/// The state as a map: higher versions win, nothing else.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) resources: BTreeMap<(i32, String), Held>,
    pub(crate) revision: u64,
    pub(crate) commands: Vec<Command>,
    pub(crate) quarantine: Vec<QuarantinedMessage>,
    pub(crate) reports: Vec<ReportSource>,
    /// Unknown types, duplicates, stale ones, filtered ones, as commands carried them.
    pub(crate) dropped: [u64; 4],
}

/// A replicated state that applies each proposal after `delay`.
pub(crate) struct FakeState {
    clock: Arc<TestClock>,
    pub(crate) held: Mutex<Contents>,
    /// How long a proposal takes.
    pub(crate) delay: Mutex<Duration>,
    /// What proposals of observations fail with instead, first to last.
    pub(crate) failures: Mutex<VecDeque<ProposeError>>,
    pub(crate) has_quorum: AtomicBool,
    pub(crate) session_is_stale: AtomicBool,
}

impl FakeState {
    pub(crate) fn new() -> Arc<FakeState> {
        Arc::new(FakeState {
            clock: TestClock::new(),
            held: Mutex::default(),
            delay: Mutex::new(Duration::from_millis(5)),
            failures: Mutex::default(),
            has_quorum: AtomicBool::new(true),
            session_is_stale: AtomicBool::new(false),
        })
    }

    /// Puts a resource in, as if observed with version 1.
    pub(crate) fn put(&self, kind: ResourceKind, cluster: &str, arn: &str) {
        let observation = Observation {
            kind: kind.into(),
            source: "main".into(),
            cluster_arn: cluster_arn(cluster),
            arn: arn.into(),
            ecs_version: Some(1),
            document: Bytes::from_static(b"{}"),
            ..Observation::default()
        };
        let mut held = self.held.lock();
        held.revision += 1;
        let mod_revision = held.revision;
        held.resources.insert(
            (kind.into(), arn.into()),
            Held {
                observation,
                mod_revision,
            },
        );
    }

    pub(crate) fn holds(&self, kind: ResourceKind, arn: &str) -> bool {
        self.held.lock().resources.contains_key(&(kind.into(), arn.to_string()))
    }

    pub(crate) fn arns(&self, kind: ResourceKind) -> Vec<String> {
        let kind = i32::from(kind);
        self.held
            .lock()
            .resources
            .keys()
            .filter(|(of, _)| *of == kind)
            .map(|(_, arn)| arn.clone())
            .collect()
    }

    fn apply(&self, command: Command) -> Outcome {
        if self.session_is_stale.load(Ordering::Relaxed) {
            let refusal = Refusal {
                code: RefusalCode::StaleSession.into(),
                ..Refusal::default()
            };
            return Outcome {
                result: Some(outcome::Result::Refusal(refusal)),
                ..Outcome::default()
            };
        }
        let mut held = self.held.lock();
        held.commands.push(command.clone());
        let result = match command.operation.expect("every command has an operation") {
            Operation::Observe(observe) => {
                let counts = [
                    observe.unknown_types,
                    observe.duplicates,
                    observe.stale,
                    observe.filtered,
                ];
                held.dropped
                    .iter_mut()
                    .zip(counts)
                    .for_each(|(sum, count)| *sum += count);
                outcome::Result::Observed(held.observe(observe.observations))
            }
            Operation::ForgetResources(forget) => {
                let mut count = 0;
                for resource in forget.resources {
                    let key = (resource.kind, resource.arn);
                    if held
                        .resources
                        .get(&key)
                        .is_some_and(|held| held.mod_revision == resource.mod_revision)
                    {
                        held.resources.remove(&key);
                        count += 1;
                    }
                }
                outcome::Result::Removed(Removed { count, more: false })
            }
            Operation::QuarantineMessages(quarantine) => {
                held.quarantine.extend(quarantine.messages);
                outcome::Result::Done(Done {})
            }
            Operation::ReportSource(report) => {
                held.reports.push(report);
                outcome::Result::Done(Done {})
            }
            other => panic!("neither feed nor reconcile proposes {other:?}"),
        };
        Outcome {
            result: Some(result),
            ..Outcome::default()
        }
    }
}

impl Contents {
    fn effect(&self, observation: &Observation) -> Effect {
        if observation.document.starts_with(br#"{"unreadable""#) {
            return Effect::Unreadable("the test says so".into());
        }
        match self.resources.get(&(observation.kind, observation.arn.clone())) {
            None => Effect::Created,
            Some(held) => match observation.ecs_version.cmp(&held.observation.ecs_version) {
                std::cmp::Ordering::Less => Effect::Stale,
                std::cmp::Ordering::Equal => Effect::Duplicate,
                std::cmp::Ordering::Greater => Effect::Changed { missed: true },
            },
        }
    }

    fn observe(&mut self, observations: Vec<Observation>) -> Observed {
        let mut observed = Observed::default();
        for observation in observations {
            match self.effect(&observation) {
                Effect::Created | Effect::Changed { .. } => {
                    observed.applied += 1;
                    self.revision += 1;
                    let key = (observation.kind, observation.arn.clone());
                    self.resources.insert(
                        key,
                        Held {
                            observation,
                            mod_revision: self.revision,
                        },
                    );
                }
                Effect::Duplicate => observed.duplicates += 1,
                _ => observed.stale += 1,
            }
        }
        observed
    }
}

impl ReplicatedState for FakeState {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
        async move {
            let delay = *self.delay.lock();
            tokio::time::sleep(delay).await;
            let is_observe = matches!(command.operation, Some(Operation::Observe(_)));
            match is_observe.then(|| self.failures.lock().pop_front()).flatten() {
                Some(failure) => Err(failure),
                None => Ok(self.apply(command)),
            }
        }
        .boxed()
    }

    fn has_recent_quorum(&self, _within: Duration) -> bool {
        self.has_quorum.load(Ordering::Relaxed)
    }

    fn session(&self) -> u64 {
        7
    }

    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn effects(&self, observations: &[Observation]) -> Result<Vec<Effect>, StoreError> {
        let held = self.held.lock();
        Ok(observations
            .iter()
            .map(|observation| held.effect(observation))
            .collect())
    }

    fn known(
        &self,
        kind: ResourceKind,
        _source: &str,
        cluster: Option<&str>,
    ) -> Result<Vec<KnownResource>, StoreError> {
        let kind = i32::from(kind);
        let held = self.held.lock();
        let of_cluster = held.resources.iter().filter(|((of, _), held)| {
            *of == kind && cluster.is_none_or(|cluster| held.observation.cluster_arn == cluster)
        });
        let known = of_cluster.map(|((_, arn), held)| KnownResource {
            arn: arn.clone(),
            mod_revision: held.mod_revision,
            forgotten: false,
        });
        Ok(known.collect())
    }

    fn last_passes(&self, _source: &str) -> Result<HashMap<String, i64>, StoreError> {
        let held = self.held.lock();
        let passes = held.reports.iter().flat_map(|report| report.passes.iter());
        Ok(passes
            .map(|pass| (pass.cluster_arn.clone(), pass.ended_at_ms))
            .collect())
    }
}
