//! EventBridge envelopes: one for each change, through the faults, onto the region's queue.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::{Instance, InstanceKey, Name, Task, TaskKey, Timer, World, new_uuid};
use crate::clock::rfc3339_seconds;

/// For whom a document is made: the API and events spell times, attachments and tags differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Event,
    /// `tags` and `health` as asked for by `include`.
    Api {
        tags: bool,
        health: bool,
    },
}

/// The two families of ECS events that carry a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
    Task,
    Instance,
}

impl EventKind {
    fn detail_type(self) -> &'static str {
        match self {
            Self::Task => "ECS Task State Change",
            Self::Instance => "ECS Container Instance State Change",
        }
    }
}

/// EventBridge's envelope, in the order of its documentation.
#[derive(Serialize)]
struct Envelope<'a> {
    version: &'static str,
    id: &'a str,
    #[serde(rename = "detail-type")]
    detail_type: &'static str,
    source: &'static str,
    account: &'a str,
    time: String,
    region: &'a str,
    resources: [&'a str; 1],
    detail: Value,
}

impl World {
    /// Sends the event of a task's current version.
    pub(crate) fn announce_task(&mut self, key: &TaskKey) {
        if let Some(task) = self.task(key).map(Arc::clone) {
            let Task { arn, version, .. } = &*task;
            self.publish(
                &key.cluster.region,
                EventKind::Task,
                arn,
                *version,
                task.document(Form::Event),
            );
        }
    }

    /// Sends the event of an instance's current version.
    pub(crate) fn announce_instance(&mut self, key: &InstanceKey) {
        if let Some(instance) = self.instance(key).map(Arc::clone) {
            let Instance { arn, version, .. } = &*instance;
            self.publish(
                &key.cluster.region,
                EventKind::Instance,
                arn,
                *version,
                instance.document(Form::Event),
            );
        }
    }

    fn publish(&mut self, region: &Name, kind: EventKind, arn: &Name, version: u64, detail: Value) {
        let now_ms = self.now_ms();
        let id = self.new_uuid();
        let envelope = Envelope {
            version: "0",
            id: &id,
            detail_type: kind.detail_type(),
            source: "aws.ecs",
            account: &self.account,
            time: rfc3339_seconds(now_ms),
            region,
            resources: [arn],
            detail,
        };
        let body: Name = serde_json::to_string(&envelope)
            .expect("strings and JSON values always serialise")
            .into();
        let event = self.journal.event_sent(now_ms, region, &id, kind, arn, version);
        for delay_ms in self.settings.faults.events.deliveries_ms(&mut self.random) {
            if delay_ms == 0 {
                self.put_event(region, event, &body);
            } else {
                let timer = Timer::PutEvent {
                    region: Name::clone(region),
                    event,
                    body: Name::clone(&body),
                };
                self.timers.set(now_ms + delay_ms, timer);
            }
        }
    }

    /// One copy of an event reaches the queue; it is lost when the queue is gone or full.
    pub(crate) fn put_event(&mut self, region: &Name, event: u64, body: &Name) {
        let now_ms = self.now_ms();
        let message_id = new_uuid(&mut self.random);
        let Some(queue) = self
            .regions
            .get_mut(region)
            .and_then(|region| region.queues.get_mut(&self.event_queue))
        else {
            return;
        };
        if queue.send(now_ms, &message_id, Name::clone(body), 0, Some(event)) {
            self.journal.event_queued(now_ms, event, &message_id);
        }
    }
}

/// The API's form, with what `include` asks for.
pub(crate) fn api_form(tags: bool, health: bool) -> Form {
    Form::Api { tags, health }
}
