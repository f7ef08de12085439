//! A replicated state without replication: the real store in memory, commands applied one after another.

use std::collections::HashMap;
use std::time::Duration;

use blox_ecs::{Effect, KnownResource, ReplicatedState};
use blox_raft::{Clock, ProposeError, SystemClock};
use blox_store::proto::{Command, Entry, Observation, OpenSession, Outcome, ResourceKind, command::Operation};
use blox_store::records::merge;
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
        let view = self.store.view()?;
        let effects = observations.iter().map(|observation| {
            let key = merge::key_of(observation).expect("a key");
            let record = view.resource(
                key.kind(),
                &observation.source,
                &observation.cluster_arn,
                &observation.arn,
            )?;
            Ok(
                match merge::effect(record.as_ref().map(|record| &record.resource), observation) {
                    Ok(merge::Effect::Applied) if record.is_none() => Effect::Created,
                    Ok(merge::Effect::Applied) => Effect::Changed { missed: false },
                    Ok(merge::Effect::Stale) => Effect::Stale,
                    Ok(_) => Effect::Duplicate,
                    Err(error) => Effect::Unreadable(error.to_string()),
                },
            )
        });
        effects.collect()
    }

    fn known(&self, _: ResourceKind, _: &str, _: Option<&str>) -> Result<Vec<KnownResource>, StoreError> {
        // Absence is proven by the unit tests: here nothing lives long enough to be forgotten.
        Ok(Vec::new())
    }

    fn last_passes(&self, _: &str) -> Result<HashMap<String, i64>, StoreError> {
        Ok(HashMap::new())
    }
}
