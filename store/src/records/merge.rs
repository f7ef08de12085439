//! The merge: what an observation does to the record of its resource.
//!
//! A record holds two registers, one for events and one for Describe answers, each the maximum of what was observed, by (ECS version,
//! observed at, content hash, bytes). Maxima do not care for order or repetition, so neither does the record: events that come late, twice
//! or out of order, and reconcile passes in between, all end in the same bytes. The version alone would not do: ECS changes some things
//! (an agent's connection, tags, health) without counting.
//!
//! Shown are the fields of the newer register, and those that only the other form ever carries.

use std::cmp::Ordering;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::fields::fields;
use super::normalise::{self, Document, UnreadableDocument, normalise, same_meaning};
use super::shown;
use super::v1_entity::v1_entity;
use crate::key::{Key, Kind};
use crate::proto::{Form, Observation, Register, ResourceKind, ResourceRecord};

/// What an observation does to the record of its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It says something new.
    Applied,
    /// It is newer than what its register holds, and says the same: a second Describe of an unchanged resource, or one that repeats an
    /// event. `apply` notes that it was seen and counts it as a duplicate; proposing it would spend a revision on nothing.
    Confirmed,
    /// The register holds exactly this.
    Duplicate,
    /// The register, or what is remembered of a deleted resource, is newer.
    Stale,
}

impl Effect {
    /// Whether the observation is worth a command.
    pub fn is_news(self) -> bool {
        self == Effect::Applied
    }
}

/// A record after an observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The record; unchanged where the effect is [`Effect::Duplicate`] or [`Effect::Stale`].
    pub record: ResourceRecord,
    /// What the observation did.
    pub effect: Effect,
    /// How many ECS versions were jumped over since the last event: events not seen (yet).
    pub gaps: u64,
}

/// Why an observation cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObservationError {
    /// Neither cluster, instance nor task, or of no known form.
    #[error("the observation of '{0}' does not say of what kind or form it is")]
    Unspecified(String),
    /// An ARN or source that cannot name anything.
    #[error("the observation has no usable {0}")]
    Unnamed(&'static str),
    /// The document cannot be read.
    #[error(transparent)]
    Document(#[from] UnreadableDocument),
}

/// The key of the record that an observation is about.
pub fn key_of(observation: &Observation) -> Result<Key, ObservationError> {
    let named = [
        ("source", &observation.source),
        ("cluster ARN", &observation.cluster_arn),
        ("ARN", &observation.arn),
    ];
    for (what, text) in named {
        // A zero byte would reach into the next part of the key.
        if text.is_empty() || text.contains('\0') {
            return Err(ObservationError::Unnamed(what));
        }
    }
    let kind = match observation.kind() {
        ResourceKind::Cluster => Kind::Cluster,
        ResourceKind::Instance => Kind::Instance,
        ResourceKind::Task => Kind::Task,
        ResourceKind::Unspecified => return Err(ObservationError::Unspecified(observation.arn.clone())),
    };
    Ok(Key::resource(
        kind,
        &observation.source,
        &observation.cluster_arn,
        &observation.arn,
    ))
}

/// What the observation would do to the record, at less cost than [`merge`]. For deleted resources see [`is_raised_from`].
pub fn effect(existing: Option<&ResourceRecord>, observation: &Observation) -> Result<Effect, ObservationError> {
    if is_plain_news(existing, observation) && normalise::is_object(&observation.document) {
        key_of(observation)?;
        return Ok(Effect::Applied);
    }
    Ok(match weigh(existing, observation)? {
        Weighed::Unchanged(effect) => effect,
        Weighed::Changed(change) => change.effect,
    })
}

/// Merges an observation into the record of its resource, or makes the record.
pub fn merge(existing: Option<&ResourceRecord>, observation: &Observation) -> Result<Merged, ObservationError> {
    let change = match weigh(existing, observation)? {
        Weighed::Changed(change) => change,
        Weighed::Unchanged(effect) => {
            let record = existing
                .cloned()
                .expect("only an existing record can be newer than an observation");
            return Ok(Merged {
                record,
                effect,
                gaps: 0,
            });
        }
    };
    let kind = observation.kind();
    let ecs_version = newer(change.event.as_ref(), change.describe.as_ref()).and_then(|register| register.ecs_version);
    let record = ResourceRecord {
        kind: observation.kind,
        source: observation.source.clone(),
        cluster_arn: observation.cluster_arn.clone(),
        arn: observation.arn.clone(),
        v1_entity: v1_entity(kind, &observation.cluster_arn, &change.shown).into(),
        fields: Some(fields(
            kind,
            &observation.cluster_arn,
            &observation.arn,
            ecs_version,
            &change.shown,
        )),
        shown: change.shown_bytes.into(),
        event: change.event,
        describe: change.describe,
        forgotten_at_elapsed_ms: match (existing, change.is_remembered) {
            (Some(existing), false) => existing.forgotten_at_elapsed_ms,
            _ => 0,
        },
    };
    Ok(Merged {
        record,
        effect: change.effect,
        gaps: change.gaps,
    })
}

/// Whether the observation is news of a resource that was deleted when this much was known of it: `ecs_version` is the highest seen,
/// `observed_at_ms` when it was last observed. Anything else is an echo of the time before.
pub fn is_raised_from(ecs_version: Option<i64>, observed_at_ms: i64, observation: &Observation) -> bool {
    match (ecs_version, observation.ecs_version) {
        (Some(deleted), Some(observed)) => observed > deleted,
        _ => observation.observed_at_ms > observed_at_ms,
    }
}

/// The highest ECS version and the latest observation of a record, over both registers.
pub fn newest_known(record: &ResourceRecord) -> (Option<i64>, i64) {
    let registers = || record.event.iter().chain(&record.describe);
    let ecs_version = registers().filter_map(|register| register.ecs_version).max();
    let observed_at_ms = registers()
        .map(|register| register.observed_at_ms)
        .max()
        .unwrap_or_default();
    (ecs_version, observed_at_ms)
}

/// Whether an observation counts whatever it says: an event of a resource of which none was seen, or only of lower versions.
fn is_plain_news(existing: Option<&ResourceRecord>, observation: &Observation) -> bool {
    let held = existing.and_then(|record| record.event.as_ref());
    observation.form() == Form::Event && held.is_none_or(|held| observation.ecs_version > held.ecs_version)
}

enum Weighed {
    Unchanged(Effect),
    Changed(Box<Change>),
}

/// What a register's move makes of the record.
struct Change {
    event: Option<Register>,
    describe: Option<Register>,
    shown: Document,
    shown_bytes: Vec<u8>,
    effect: Effect,
    gaps: u64,
    /// ECS knows it (again): the observation is newer than all that was known.
    is_remembered: bool,
}

fn weigh(existing: Option<&ResourceRecord>, observation: &Observation) -> Result<Weighed, ObservationError> {
    key_of(observation)?;
    let held = match observation.form() {
        Form::Event => existing.and_then(|record| record.event.as_ref()),
        Form::Describe => existing.and_then(|record| record.describe.as_ref()),
        Form::Unspecified => return Err(ObservationError::Unspecified(observation.arn.clone())),
    };
    if held.is_some_and(|held| observation.ecs_version < held.ecs_version) {
        return Ok(Weighed::Unchanged(Effect::Stale));
    }
    let document = normalise(&observation.document)?;
    let incoming = register(observation, &document);
    match held.map(|held| order(&incoming, held)) {
        Some(Ordering::Less) => return Ok(Weighed::Unchanged(Effect::Stale)),
        Some(Ordering::Equal) => return Ok(Weighed::Unchanged(Effect::Duplicate)),
        Some(Ordering::Greater) | None => {}
    }
    Ok(Weighed::Changed(Box::new(change(
        existing,
        held,
        incoming,
        observation.form(),
        document,
    )?)))
}

/// What becomes of the record as its register of this form moves from `held` to `incoming`, whose document is given as read.
fn change(
    existing: Option<&ResourceRecord>,
    held: Option<&Register>,
    incoming: Register,
    form: Form,
    document: Document,
) -> Result<Change, ObservationError> {
    let is_event = form == Form::Event;
    let says_other =
        held.is_none_or(|held| (held.ecs_version, held.content_hash) != (incoming.ecs_version, incoming.content_hash));
    let is_newest = existing.is_some_and(|record| {
        newer(record.event.as_ref(), record.describe.as_ref())
            .is_none_or(|known| order_between_forms(&incoming, known) == Ordering::Greater)
    });
    let gaps = if is_event { versions_between(held, &incoming) } else { 0 };
    let lent = (!is_event).then(|| shown::lent_to_events(&document));
    let (event, describe) = if is_event {
        (Some(incoming), existing.and_then(|record| record.describe.clone()))
    } else {
        (existing.and_then(|record| record.event.clone()), Some(incoming))
    };
    let shown = show(event.as_ref(), describe.as_ref(), form, document)?;
    let shown_bytes = normalise::to_bytes(&shown);
    let effect = match existing {
        None => Effect::Applied,
        Some(record) if is_newest && record.forgotten_at_elapsed_ms != 0 => Effect::Applied,
        // A new event always counts: the next gap is measured from it.
        Some(_) if says_other && is_event => Effect::Applied,
        Some(record) if shows_the_same(record, &shown, &shown_bytes, lent.as_ref())? => Effect::Confirmed,
        Some(_) => Effect::Applied,
    };
    Ok(Change {
        event,
        describe,
        shown,
        shown_bytes,
        effect,
        gaps,
        is_remembered: is_newest,
    })
}

fn register(observation: &Observation, document: &Document) -> Register {
    Register {
        ecs_version: observation.ecs_version,
        observed_at_ms: observation.observed_at_ms,
        content_hash: xxh3_64(&normalise::to_bytes(document)),
        document: Bytes::clone(&observation.document),
    }
}

/// The order within one register. The bytes decide between documents that differ in white space alone.
fn order(left: &Register, right: &Register) -> Ordering {
    left.ecs_version
        .cmp(&right.ecs_version)
        .then(left.observed_at_ms.cmp(&right.observed_at_ms))
        .then(left.content_hash.cmp(&right.content_hash))
        .then_with(|| left.document.cmp(&right.document))
}

/// The order between the two forms: by version only where both count, since a stand-in may count in one form and not in the other.
fn order_between_forms(left: &Register, right: &Register) -> Ordering {
    let by_version = match (left.ecs_version, right.ecs_version) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => Ordering::Equal,
    };
    by_version
        .then(left.observed_at_ms.cmp(&right.observed_at_ms))
        .then(left.content_hash.cmp(&right.content_hash))
        .then_with(|| left.document.cmp(&right.document))
}

/// The newer of the two registers; the event where they are equal.
fn newer<'a>(event: Option<&'a Register>, describe: Option<&'a Register>) -> Option<&'a Register> {
    match (event, describe) {
        (Some(event), Some(describe)) => match order_between_forms(event, describe) {
            Ordering::Less => Some(describe),
            Ordering::Equal | Ordering::Greater => Some(event),
        },
        (one, other) => one.or(other),
    }
}

fn versions_between(held: Option<&Register>, incoming: &Register) -> u64 {
    let versions = held.and_then(|held| held.ecs_version).zip(incoming.ecs_version);
    versions.map_or(0, |(held, incoming)| {
        incoming.saturating_sub(held).saturating_sub(1).max(0).unsigned_abs()
    })
}

/// Whether people see the same as before, and go on doing so: what a Describe would add to a later event is the same as well.
fn shows_the_same(
    record: &ResourceRecord,
    shown: &Document,
    shown_bytes: &[u8],
    lent: Option<&Document>,
) -> Result<bool, ObservationError> {
    let is_same = record.shown == shown_bytes || same_meaning(&normalise(&record.shown)?, shown);
    let Some(lent) = lent.filter(|_| is_same) else {
        return Ok(is_same);
    };
    let lent_before = match &record.describe {
        Some(held) => shown::lent_to_events(&normalise(&held.document)?),
        None => Document::new(),
    };
    Ok(same_meaning(&lent_before, lent))
}

/// The document to show: the newer register's, and what only the other form knows. `document` is that of form `form`, as read.
fn show(
    event: Option<&Register>,
    describe: Option<&Register>,
    form: Form,
    document: Document,
) -> Result<Document, ObservationError> {
    let (Some(event), Some(describe)) = (event, describe) else {
        return Ok(document);
    };
    let is_event = form == Form::Event;
    Ok(match order_between_forms(event, describe) {
        Ordering::Less if is_event => shown::describe_with_event(normalise(&describe.document)?, &document),
        Ordering::Less => shown::describe_with_event(document, &normalise(&event.document)?),
        // Of the Describe answer, which an event leaves as it was, little is looked at.
        _ if is_event => shown::event_with_describe(document, &shown::lending(&describe.document)?),
        _ => shown::event_with_describe(normalise(&event.document)?, &document),
    })
}
