//! Bytes that stand on disk and travel between versions. A difference here is a change of format: old states and logs must still be read.
//!
//! `BLOX_BLESS=1 cargo nextest run -p blox-store golden` writes the files anew.

use std::fs;
use std::path::PathBuf;

use blox_store::proto::stored_value::Body;
use blox_store::proto::{HistoryRecord, Register, ResourceFields, ResourceKind, ResourceRecord, StoredValue};
use blox_store::{Key, Kind, Store};
use prost::Message;

use crate::support::{Fed, Task, keyed, log_entry, put};

fn check(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.hex"));
    let lines: Vec<String> = bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("BLOX_BLESS").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(
        text, golden,
        "{name}: the format has changed (see the top of this file)"
    );
}

#[test]
fn keys() {
    let task = Task::new("one", "a", "1");
    let keys = [
        Key::resource(Kind::Task, &task.source, &task.cluster_arn, &task.arn),
        Key::environment("name"),
        Key::deployment("environment", "deployment"),
        Key::launch("environment", "instance"),
        Key::stop("environment", "task"),
        Key::user(b"any\0bytes\xff"),
    ];
    check(
        "keys",
        &keys
            .iter()
            .flat_map(|key| [key.as_bytes(), b"\n"].concat())
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_stored_value() {
    let register = Register {
        ecs_version: Some(7),
        observed_at_ms: 1_700_000_000_000,
        content_hash: 0x0123_4567_89ab_cdef,
        document: "{}".into(),
    };
    let resource = ResourceRecord {
        kind: ResourceKind::Task as i32,
        source: "one".into(),
        cluster_arn: "cluster".into(),
        arn: "arn".into(),
        event: Some(register),
        describe: None,
        shown: "{\"a\":1}".into(),
        v1_entity: "{}".into(),
        fields: Some(ResourceFields {
            status: "RUNNING".into(),
            agent_connected: true,
            ..ResourceFields::default()
        }),
        forgotten_at_elapsed_ms: 9,
    };
    let value = StoredValue {
        create_revision: 1,
        mod_revision: 300,
        version: 2,
        lease_id: 0,
        body: Some(Body::Resource(resource)),
    };
    check("stored-value", &value.encode_to_vec());
}

#[test]
fn a_history_record() {
    let record = HistoryRecord {
        key: Key::user(b"key").to_bytes(),
        previous_mod_revision: 41,
        deleted: true,
        actor: "api".into(),
        request_id: "request".into(),
        cause: "somebody asked".into(),
        session: 3,
        wall_time_ms: 1_700_000_000_000,
        ecs_version: Some(-1),
    };
    check("history-record", &record.encode_to_vec());
}

#[test]
fn a_log_entry() {
    let entry = log_entry(1, 5, vec![keyed(put("key", "value"), "idempotency", 9)]);
    check("log-entry", &entry.payload.expect("a payload"));
}

/// The hash of a small state: it changes with any byte that any family holds.
#[test]
fn a_state_hash() {
    let mut fed = Fed::new(Store::in_memory());
    fed.put("a", "1");
    fed.put("a", "2");
    fed.delete("a");
    fed.compact(2);
    check("state-hash", &fed.store.state_hash().expect("a hash").1.to_be_bytes());
}
