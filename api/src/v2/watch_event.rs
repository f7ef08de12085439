//! One change as a line: `{"type":"PUT|DELETE","revision":N,"kind":...,key parts...,"object":...,"actor",...}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blox_store::proto::StoredValue;
use blox_store::proto::stored_value::Body;
use blox_store::{Change, Kind, Revision};
use bytes::Bytes;

use super::json::{push, push_member, push_resource};
use super::models::{DeploymentModel, EnvironmentModel, KeyModel, LaunchModel, StopModel};
use blox_store::proto::KeyValue;

/// `{"type":"BOOKMARK","revision":N}`: everything up to and including N was delivered.
pub(super) fn bookmark(revision: Revision) -> Bytes {
    let mut out = b"{\"type\":\"BOOKMARK\"".to_vec();
    push_member(&mut out, "revision", &revision);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// Appends a change; of a deletion, `object` is the last value, or null where that is no longer kept.
pub(super) fn push_change(out: &mut Vec<u8>, change: &Change) {
    let kind = change.key.kind();
    out.extend_from_slice(b"{\"type\":");
    push(out, if change.current.is_some() { "PUT" } else { "DELETE" });
    push_member(out, "revision", &change.revision);
    push_member(out, "kind", kind.name());
    push_key(out, change, kind);
    out.extend_from_slice(b",\"object\":");
    match change.current.as_ref().or(change.deleted.as_ref()) {
        Some(value) => push_object(out, change, value),
        None => out.extend_from_slice(b"null"),
    }
    push_member(out, "actor", &change.cause.actor);
    push_member(out, "request_id", &change.cause.request_id);
    push_member(out, "cause", &change.cause.reason);
    push_member(out, "time_ms", &change.cause.wall_time_ms);
    out.extend_from_slice(b"}\n");
}

/// The parts of the key, by name.
fn push_key(out: &mut Vec<u8>, change: &Change, kind: Kind) {
    if kind == Kind::User {
        let key = change.key.tail();
        push_member(out, "key", &std::str::from_utf8(key).ok());
        push_member(out, "key_base64", &STANDARD.encode(key));
        return;
    }
    let names: &[&str] = match kind {
        Kind::Cluster => &["source", "arn"],
        Kind::Instance | Kind::Task => &["source", "cluster_arn", "arn"],
        Kind::Environment => &["name"],
        Kind::Deployment => &["environment_id", "id"],
        Kind::Launch => &["environment_id", "instance_arn"],
        Kind::Stop => &["environment_id", "task_arn"],
        Kind::User => &[],
    };
    for (name, part) in names.iter().zip(change.key.parts()) {
        push_member(out, name, &part);
    }
}

fn push_object(out: &mut Vec<u8>, change: &Change, value: &StoredValue) {
    match &value.body {
        Some(Body::Resource(resource)) => push_resource(out, resource, value.mod_revision, value.create_revision),
        Some(Body::Environment(record)) => {
            let mut record = record.clone();
            record.mod_revision = value.mod_revision;
            push(out, &EnvironmentModel::of(record));
        }
        Some(Body::Deployment(record)) => push(out, &DeploymentModel::of(record.clone())),
        Some(Body::Launch(record)) => push(out, &LaunchModel::of(record.clone())),
        Some(Body::Stop(record)) => push(out, &StopModel::of(record.clone())),
        Some(Body::User(bytes)) => {
            let pair = KeyValue {
                key: change.key.tail().to_vec().into(),
                value: bytes.clone(),
                create_revision: value.create_revision,
                mod_revision: value.mod_revision,
                version: value.version,
            };
            push(out, &KeyModel::of(&pair));
        }
        None => out.extend_from_slice(b"null"),
    }
}
