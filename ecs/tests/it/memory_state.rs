//! A replicated state without replication: the real store in memory, commands applied one after another.

use std::collections::HashMap;
use std::time::Duration;

use blox_ecs::{Effect, KnownResource, ReplicatedState, reads};
use blox_raft::{Clock, ProposeError, SystemClock};
use blox_store::proto::{
    Command, Entry, ForgetResource, ForgetResources, Form, Observation, Observe, OpenSession, Outcome, ResourceKind,
    command::Operation,
};
use blox_store::{Kind, LogEntry, ResourceFilter, Store, StoreError};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;

/// The store, with one session open.
pub(crate) struct MemoryState {
    pub(crate) store: Store,
    clock: SystemClock,
    index: Mutex<u64>,
}

impl MemoryState {
    pub(crate) fn new() -> MemoryState {
        let state = MemoryState {
            store: Store::in_memory(),
            clock: SystemClock::new(),
            index: Mutex::new(0),
        };
        let open = OpenSession {
            node: "test".into(),
            term: 1,
        };
        state.apply(Command {
            operation: Some(Operation::OpenSession(open)),
            ..Command::default()
        });
        state
    }

    fn apply(&self, command: Command) -> Outcome {
        let mut index = self.index.lock();
        *index += 1;
        let elapsed_ms = self.clock.monotonic().as_millis() as u64;
        let entry = Entry {
            wall_time_ms: self.clock.wall_ms(),
            elapsed_ms,
            commands: vec![command],
        };
        let entry = LogEntry {
            index: *index,
            log_id: Bytes::copy_from_slice(&index.to_be_bytes()),
            membership: None,
            payload: Some(entry.encode_to_vec().into()),
        };
        let applied = self.store.apply(&[entry]).expect("the memory engine does not fail");
        applied[0].outcomes[0].clone()
    }

    /// ARNs of a kind that the state holds, with ECS' version.
    pub(crate) fn versions(&self, kind: Kind) -> HashMap<String, i64> {
        let records = self
            .store
            .view()
            .expect("a view")
            .list(kind, ResourceFilter::default())
            .expect("a list");
        let version =
            |record: &blox_store::Record| record.resource.fields.as_ref().and_then(|fields| fields.ecs_version);
        let records = records.map(|record| record.expect("a record"));
        records
            .map(|record| (record.resource.arn.clone(), version(&record).unwrap_or_default()))
            .collect()
    }
}

impl ReplicatedState for MemoryState {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
        async move { Ok(self.apply(command)) }.boxed()
    }

    fn has_recent_quorum(&self, _within: Duration) -> bool {
        true
    }

    fn session(&self) -> u64 {
        self.store.session().expect("a session").session
    }

    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn effects(&self, observations: &[Observation]) -> Result<Vec<Effect>, StoreError> {
        reads::effects(&self.store, observations)
    }

    fn known(
        &self,
        kind: ResourceKind,
        source: &str,
        cluster_arn: Option<&str>,
    ) -> Result<Vec<KnownResource>, StoreError> {
        reads::known(&self.store, kind, source, cluster_arn)
    }

    fn last_passes(&self, source: &str) -> Result<HashMap<String, i64>, StoreError> {
        reads::last_passes(&self.store, source)
    }
}

fn describe(arn: &str, ecs_version: i64, observed_at_ms: i64, status: &str) -> Observation {
    Observation {
        kind: ResourceKind::Task.into(),
        source: "main".into(),
        cluster_arn: "arn:aws:ecs:us-east-1:123456789012:cluster/one".into(),
        arn: arn.into(),
        form: Form::Describe.into(),
        ecs_version: Some(ecs_version),
        observed_at_ms,
        document: format!(r#"{{"taskArn":"{arn}","lastStatus":"{status}","version":{ecs_version}}}"#).into(),
    }
}

/// Against the real state: an observation's effect is told as apply will find it, and a STOPPED task that was forgotten is known as such, so that
/// it is not asked for again.
#[tokio::test]
async fn effects_and_known_resources_are_those_of_the_store() {
    let state = MemoryState::new();
    let arn = "arn:aws:ecs:us-east-1:123456789012:task/one/t1";
    let first = describe(arn, 2, 1_000, "STOPPED");
    assert_eq!(
        state.effects(std::slice::from_ref(&first)).expect("a view"),
        [Effect::Created]
    );
    let observe = Observe {
        observations: vec![first.clone()],
        unknown_types: 0,
        source: "main".into(),
        ..Observe::default()
    };
    state.apply(Command {
        session: state.session(),
        operation: Some(Operation::Observe(observe)),
        ..Command::default()
    });

    let same_later = describe(arn, 2, 9_000, "STOPPED");
    let older = describe(arn, 1, 9_000, "RUNNING");
    let newer = describe(arn, 3, 500, "DELETED");
    let unreadable = Observation {
        document: "[".into(),
        ..describe(arn, 9, 1, "")
    };
    let effects = state
        .effects(&[first, same_later, older, newer, unreadable])
        .expect("a view");
    assert_eq!(
        effects[..4],
        [
            Effect::Duplicate,
            Effect::Duplicate,
            Effect::Stale,
            Effect::Changed { missed: true }
        ]
    );
    assert!(matches!(effects[4], Effect::Unreadable(_)), "{effects:?}");

    let cluster_arn = "arn:aws:ecs:us-east-1:123456789012:cluster/one";
    let known = state
        .known(ResourceKind::Task, "main", Some(cluster_arn))
        .expect("a view");
    assert_eq!((known[0].arn.as_str(), known[0].forgotten), (arn, false));
    let forget = ForgetResource {
        kind: ResourceKind::Task.into(),
        source: "main".into(),
        cluster_arn: cluster_arn.into(),
        arn: arn.into(),
        mod_revision: known[0].mod_revision,
    };
    let forget = Operation::ForgetResources(ForgetResources {
        resources: vec![forget],
    });
    state.apply(Command {
        session: state.session(),
        operation: Some(forget),
        ..Command::default()
    });
    let known = state
        .known(ResourceKind::Task, "main", Some(cluster_arn))
        .expect("a view");
    assert!(known.iter().all(|known| known.forgotten), "{known:?}");
    assert!(
        state
            .known(ResourceKind::Task, "other", None)
            .expect("a view")
            .is_empty()
    );
}
