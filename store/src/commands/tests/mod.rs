//! Commands against a whole state in memory.

mod absence;
mod environments;
mod launches;
mod observations;
mod stops;
mod user_keys;

use bytes::Bytes;
use prost::Message;

use crate::key::{Key, Kind};
use crate::proto::command::Operation;
use crate::proto::outcome::Result as Answer;
use crate::proto::{
    Command, CreateEnvironment, Entry, EnvironmentRecord, EnvironmentSpec, Form, LaunchRecord, Observation, Observe,
    Observed, OpenSession, Outcome, Refusal, RefusalCode, ResourceKind, ResourceRecord,
};
use crate::store::{LogEntry, Store};

pub(super) const SOURCE: &str = "east";
pub(super) const CLUSTER: &str = "arn:aws:ecs:us-east-1:123456789012:cluster/alpha";
pub(super) const TASK: &str = "arn:aws:ecs:us-east-1:123456789012:task/alpha/1";
pub(super) const INSTANCE: &str = "arn:aws:ecs:us-east-1:123456789012:container-instance/alpha/1";
pub(super) const TASK_DEFINITION: &str = "arn:aws:ecs:us-east-1:123456789012:task-definition/web:1";

/// A state in memory with a replicated clock that the test moves.
pub(super) struct State {
    store: Store,
    next_index: u64,
    pub elapsed_ms: u64,
    pub session: u64,
}

impl State {
    /// Empty, with the first session open.
    pub fn new() -> State {
        let mut state = State {
            store: Store::in_memory(),
            next_index: 1,
            elapsed_ms: 1_000,
            session: 0,
        };
        state.open_session();
        state
    }

    pub fn open_session(&mut self) {
        match self.apply(Operation::OpenSession(OpenSession {
            node: "n1".into(),
            term: 1,
        })) {
            Answer::SessionOpened(opened) => self.session = opened.session,
            other => panic!("no session: {other:?}"),
        }
    }

    /// Applies a user's command.
    pub fn apply(&mut self, operation: Operation) -> Answer {
        self.apply_in(0, operation)
    }

    /// Applies a command of the current session.
    pub fn apply_as_leader(&mut self, operation: Operation) -> Answer {
        self.apply_in(self.session, operation)
    }

    fn apply_in(&mut self, session: u64, operation: Operation) -> Answer {
        let command = Command {
            actor: "test".into(),
            session,
            operation: Some(operation),
            ..Command::default()
        };
        let entry = Entry {
            wall_time_ms: 1_700_000_000_000,
            elapsed_ms: self.elapsed_ms,
            commands: vec![command],
        };
        let entry = LogEntry {
            index: self.next_index,
            log_id: Bytes::from(self.next_index.to_be_bytes().to_vec()),
            membership: None,
            payload: Some(entry.encode_to_vec().into()),
        };
        self.next_index += 1;
        let mut applied = self.store.apply(&[entry]).expect("the state takes the entry");
        let outcome: Outcome = applied.remove(0).outcomes.remove(0);
        assert_eq!(
            outcome.revision,
            self.revision(),
            "an outcome carries the state's revision"
        );
        outcome.result.expect("every command has a result")
    }

    pub fn observe(&mut self, observations: &[Observation]) -> Observed {
        let observe = Observe {
            observations: observations.to_vec(),
            unknown_types: 0,
            source: SOURCE.into(),
            ..Observe::default()
        };
        match self.apply_as_leader(Operation::Observe(observe)) {
            Answer::Observed(observed) => observed,
            other => panic!("not observed: {other:?}"),
        }
    }

    /// A user's command that must be taken and give an environment.
    pub fn environment_of(&mut self, operation: Operation) -> EnvironmentRecord {
        match self.apply(operation) {
            Answer::Environment(environment) => environment,
            other => panic!("no environment: {other:?}"),
        }
    }

    /// A user's command that must be refused.
    pub fn refusal_of(&mut self, operation: Operation) -> Refusal {
        let before = self.revision();
        match self.apply(operation) {
            Answer::Refusal(refusal) => {
                assert_eq!(self.revision(), before, "a refused command changes nothing");
                refusal
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn revision(&self) -> u64 {
        self.store.view().expect("a view").revision()
    }

    pub fn resource(&self, kind: Kind, arn: &str) -> Option<(ResourceRecord, u64)> {
        let found = self
            .store
            .view()
            .expect("a view")
            .resource(kind, SOURCE, CLUSTER, arn)
            .expect("readable");
        found.map(|record| (record.resource, record.mod_revision))
    }

    pub fn task(&self) -> Option<(ResourceRecord, u64)> {
        self.resource(Kind::Task, TASK)
    }

    pub fn launch(&self, environment_id: &str) -> Option<LaunchRecord> {
        let launches = self
            .store
            .view()
            .expect("a view")
            .launches(environment_id)
            .expect("readable");
        launches.into_iter().find(|launch| launch.instance_arn == INSTANCE)
    }

    pub fn has(&self, key: &Key) -> bool {
        self.store.view().expect("a view").get(key).expect("readable").is_some()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }
}

pub(super) fn code(refusal: &Refusal) -> RefusalCode {
    refusal.code()
}

pub(super) fn task_event(ecs_version: i64, observed_at_ms: i64, status: &str) -> Observation {
    task_observation(TASK, Form::Event, Some(ecs_version), observed_at_ms, status)
}

pub(super) fn task_observation(
    arn: &str,
    form: Form,
    ecs_version: Option<i64>,
    observed_at_ms: i64,
    status: &str,
) -> Observation {
    let document = format!(
        r#"{{"taskArn":"{arn}","clusterArn":"{CLUSTER}","containerInstanceArn":"{INSTANCE}","lastStatus":"{status}","startedBy":"d1"}}"#
    );
    Observation {
        kind: ResourceKind::Task as i32,
        source: SOURCE.into(),
        cluster_arn: CLUSTER.into(),
        arn: arn.into(),
        form: form as i32,
        ecs_version,
        observed_at_ms,
        document: document.into(),
    }
}

pub(super) fn instance_observation(ecs_version: i64, status: &str) -> Observation {
    let document = format!(r#"{{"containerInstanceArn":"{INSTANCE}","status":"{status}","agentConnected":true}}"#);
    Observation {
        kind: ResourceKind::Instance as i32,
        source: SOURCE.into(),
        cluster_arn: CLUSTER.into(),
        arn: INSTANCE.into(),
        form: Form::Describe as i32,
        ecs_version: Some(ecs_version),
        observed_at_ms: ecs_version,
        document: document.into(),
    }
}

pub(super) fn spec() -> EnvironmentSpec {
    EnvironmentSpec {
        source: SOURCE.into(),
        cluster_arn: CLUSTER.into(),
        task_definition_arn: TASK_DEFINITION.into(),
        max_unavailable: 1,
        ..EnvironmentSpec::default()
    }
}

/// Environment `name` with id `id-NAME` and token `token-1`; rolled out at once where a deployment is named.
pub(super) fn create_environment(name: &str, deployment_id: &str) -> Operation {
    Operation::CreateEnvironment(CreateEnvironment {
        id: format!("id-{name}"),
        name: name.into(),
        spec: Some(spec()),
        deployment_token: "token-1".into(),
        deployment_id: deployment_id.into(),
    })
}
