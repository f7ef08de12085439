//! Lenient decoding of what arrives on the queue.
//!
//! Bodies: a bare EventBridge event, one wrapped by SNS, or an array of either (EventBridge Pipes). AWS says that types and fields may be
//! added at any time: what is unknown is counted, never refused, and `detail` is kept as received. Only what cannot be read is poison.
//! ("Amazon ECS events", "Handling events", in the ECS developer guide.)

use blox_store::proto::{Form, Observation, ResourceKind};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::ClusterFilter;

/// The longest ARN accepted, bytes (AWS' own limit for most is 2,048).
const ARN_BYTES_MAX: usize = 2_048;
/// How deep wrappings may be nested: an array of SNS notifications of events is three.
const WRAPPINGS_MAX: usize = 4;
/// EventBridge's name for ECS.
const EVENT_SOURCE: &str = "aws.ecs";

/// The event types that carry a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// `ECS Task State Change`.
    Task,
    /// `ECS Container Instance State Change`.
    Instance,
}

impl EventType {
    fn of(detail_type: &str) -> Option<EventType> {
        match detail_type {
            "ECS Task State Change" => Some(EventType::Task),
            "ECS Container Instance State Change" => Some(EventType::Instance),
            _ => None,
        }
    }

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            EventType::Task => "task",
            EventType::Instance => "instance",
        }
    }

    /// The name of an observation's type in metrics.
    pub(crate) fn name_of(kind: ResourceKind) -> &'static str {
        match kind {
            ResourceKind::Instance => EventType::Instance.name(),
            _ => EventType::Task.name(),
        }
    }
}

/// What one message held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// What ECS observed, in the order of the body.
    pub observations: Vec<Observation>,
    /// Events of types that carry no resource of ours: counted and forgotten.
    pub unknown_types: u64,
    /// Events of clusters this source is not about.
    pub filtered: u64,
    /// Why (a part of) the message could not be read; the message belongs into quarantine.
    pub poison: Option<String>,
}

/// Decodes one message body of `source`. Never fails: what cannot be read is said in [`Decoded::poison`].
pub fn decode(source: &str, filter: &ClusterFilter, body: &Bytes) -> Decoded {
    let mut decoder = Decoder {
        source,
        filter,
        decoded: Decoded::default(),
    };
    decoder.body(body, WRAPPINGS_MAX);
    decoder.decoded
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    source: Option<String>,
    time: Option<String>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(rename = "Type")]
    sns_type: Option<String>,
    #[serde(rename = "Message")]
    sns_message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    cluster_arn: Option<String>,
    task_arn: Option<String>,
    container_instance_arn: Option<String>,
    version: Option<i64>,
}

struct Decoder<'a> {
    source: &'a str,
    filter: &'a ClusterFilter,
    decoded: Decoded,
}

impl Decoder<'_> {
    fn body(&mut self, body: &Bytes, wrappings_left: usize) {
        let array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let result = match wrappings_left.checked_sub(1) {
            None => Err("wrapped too often".to_string()),
            Some(left) if array => self.array(body, left),
            Some(left) => self.object(body, left),
        };
        // One bad element must not hide the good ones beside it; the first reason is enough.
        if let Err(reason) = result {
            self.decoded.poison.get_or_insert(reason);
        }
    }

    fn array(&mut self, body: &Bytes, wrappings_left: usize) -> Result<(), String> {
        let elements: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
        for element in elements {
            self.body(&body.slice_ref(element.get().as_bytes()), wrappings_left);
        }
        Ok(())
    }

    fn object(&mut self, body: &Bytes, wrappings_left: usize) -> Result<(), String> {
        let envelope: Envelope<'_> =
            serde_json::from_slice(body).map_err(|error| format!("not an event in JSON: {error}"))?;
        match (&envelope.detail_type, &envelope.sns_type, envelope.sns_message) {
            (Some(detail_type), _, _) => match EventType::of(detail_type) {
                Some(event_type) => {
                    let detail = envelope.detail.ok_or("the event has no detail")?;
                    let origin = Origin {
                        source: envelope.source,
                        time: envelope.time,
                    };
                    self.event(event_type, &origin, &body.slice_ref(detail.get().as_bytes()))
                }
                None => {
                    self.decoded.unknown_types += 1;
                    Ok(())
                }
            },
            (None, Some(kind), Some(message)) if kind == "Notification" => {
                self.body(&Bytes::from(message), wrappings_left);
                Ok(())
            }
            _ => Err("neither an event (no detail-type) nor an SNS notification".into()),
        }
    }

    fn event(&mut self, event_type: EventType, origin: &Origin, detail: &Bytes) -> Result<(), String> {
        let observed_at_ms = origin.check()?;
        let parsed: Detail = serde_json::from_slice(detail).map_err(|error| format!("detail: {error}"))?;
        let (kind, arn, name) = match event_type {
            EventType::Task => (ResourceKind::Task, parsed.task_arn, "detail.taskArn"),
            EventType::Instance => (
                ResourceKind::Instance,
                parsed.container_instance_arn,
                "detail.containerInstanceArn",
            ),
        };
        let cluster_arn = checked_arn("detail.clusterArn", parsed.cluster_arn)?;
        let arn = checked_arn(name, arn)?;
        if !self.filter.accepts(&cluster_arn) {
            self.decoded.filtered += 1;
            return Ok(());
        }
        self.decoded.observations.push(Observation {
            kind: kind.into(),
            source: self.source.to_string(),
            cluster_arn,
            arn,
            form: Form::Event.into(),
            ecs_version: parsed.version,
            observed_at_ms,
            document: detail.clone(),
        });
        Ok(())
    }
}

/// Where and when an event says it comes from.
struct Origin {
    source: Option<String>,
    time: Option<String>,
}

impl Origin {
    /// The event's time, milliseconds since the epoch; an error where it is not from ECS or has no time.
    fn check(&self) -> Result<i64, String> {
        match self.source.as_deref() {
            Some(EVENT_SOURCE) => {}
            Some(other) => return Err(format!("source is {:?}, not {EVENT_SOURCE:?}", shortened(other))),
            None => return Err("the event has no source".into()),
        }
        let time = self.time.as_deref().ok_or("the event has no time")?;
        let time: jiff::Timestamp = time
            .parse()
            .map_err(|_| format!("time {:?} is no RFC 3339 time", shortened(time)))?;
        Ok(time.as_millisecond())
    }
}

/// An ARN that can stand in a key.
fn checked_arn(name: &str, arn: Option<String>) -> Result<String, String> {
    let arn = arn.ok_or_else(|| format!("{name} is missing"))?;
    let is_plain = arn.starts_with("arn:") && arn.len() <= ARN_BYTES_MAX && !arn.chars().any(char::is_control);
    match is_plain {
        true => Ok(arn),
        false => Err(format!("{name} is {:?}, which is no ARN", shortened(&arn))),
    }
}

/// At most this many characters of a hostile value are quoted.
const QUOTED_CHARACTERS_MAX: usize = 80;

fn shortened(text: &str) -> String {
    text.chars().take(QUOTED_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests;
